"""Encoders, fusions, heads and the multimodal model made of them. Models see tensors, never a cube or a file."""
