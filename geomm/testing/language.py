"""Small random text models and dual encoders, written as their libraries write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("a", "lake", "river", "forest", "near", "the", "village", "of", "fields", "water", "body", "airport", "city")
"""What the small text models can read."""


def write_bert(folder: Path, *, width: int = 16) -> Path:
    """Write a BERT of two layers with a tokeniser of :data:`WORDS`; weights from torch's generator."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def write_sentence_model(folder: Path, *, width: int = 16) -> Path:
    """Write a sentence-transformers model: :func:`write_bert` and the mean over its tokens."""
    write_bert(folder, width=width)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def clip_config(*, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return open_clip's configuration of a small model: images of 32 pixels, patches of 8, vectors of 16 numbers."""
    small = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
    words = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    return {"embed_dim": 16, "vision_cfg": vision or small, "text_cfg": text or words}


def write_clip(folder: Path, config: dict[str, Any], *, file: str = "open_clip_model.safetensors") -> Any:
    """Write a dual encoder as a folder of open_clip; weights from torch's generator.

    Args:
        folder: to write to.
        config: see :func:`clip_config`.
        file: of the weights; anything but ``.safetensors`` is written as RemoteCLIP's files are.

    Returns:
        The network.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    network = open_clip.CLIP(**config).eval()
    state = {k: v.detach().contiguous().clone() for k, v in network.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(state, folder / file)
    else:
        torch.save(state, folder / file)
    return network
