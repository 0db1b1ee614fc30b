"""A STAC API on loopback: stac-fastapi over items in memory, with the files behind HTTP range requests.

Run as a process of its own: ``python stac_server.py FOLDER PORT``. ``FOLDER/items.json`` holds items whose asset addresses
are relative to the folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import uvicorn
from shapely.geometry import box
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_get_request_model, create_post_request_model
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from starlette.responses import FileResponse, JSONResponse, Response

PAGE = 2  # so that every search of the tests needs several pages


class Client(BaseCoreClient):
    """Searches a list."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.requests = folder, Counter()

    def items(self, base):
        for item in json.loads((self.folder / "items.json").read_text()):
            for asset in item["assets"].values():
                asset["href"] = f"{base}files/{asset['href']}"
            yield item

    def post_search(self, search_request, **kwargs):
        base = str(kwargs["request"].base_url)
        self.requests["search"] += 1
        if self.requests["search"] == 1:
            raise RuntimeError("busy")  # the first search fails: clients try again
        found = []
        for item in self.items(base):
            when = item["properties"]["datetime"]
            start, end = (search_request.start_date, search_request.end_date)
            if search_request.collections and item["collection"] not in search_request.collections:
                continue
            if search_request.ids and item["id"] not in search_request.ids:
                continue
            if search_request.bbox and not box(*search_request.bbox).intersects(box(*item["bbox"])):
                continue
            if (start and when < start.isoformat()[:19]) or (end and when[:19] > end.isoformat()[:19]):
                continue
            found.append(item)
        first = int(getattr(search_request, "token", None) or 0)
        links = []
        if first + PAGE < len(found):
            body = {**search_request.model_dump(mode="json", exclude_none=True), "token": str(first + PAGE)}
            links = [{"rel": "next", "type": "application/geo+json", "method": "POST", "href": f"{base}search",
                      "body": body}]  # fmt: skip
        return {"type": "FeatureCollection", "features": found[first : first + PAGE], "links": links}

    def get_search(self, **kwargs):
        raise NotImplementedError

    def get_item(self, item_id, collection_id, **kwargs):
        raise NotFoundError(item_id)

    def item_collection(self, collection_id, **kwargs):
        raise NotImplementedError

    def all_collections(self, **kwargs):
        names = sorted({i["collection"] for i in self.items("")})
        return {"collections": [self.get_collection(n, **kwargs) for n in names], "links": []}

    def get_collection(self, collection_id, **kwargs):
        return {
            "type": "Collection", "id": collection_id, "stac_version": "1.0.0", "description": collection_id, "links": [],
            "license": "other", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                                           "temporal": {"interval": [[None, None]]}},
        }  # fmt: skip


def main(folder: Path, port: int) -> None:
    os.environ["STAC_FASTAPI_LANDING_ID"] = "loopback"
    client = Client(folder)
    pages = TokenPaginationExtension()
    api = StacApi(
        settings=ApiSettings(enable_response_models=False),
        client=client,
        extensions=[pages],
        search_post_request_model=create_post_request_model([pages]),
        search_get_request_model=create_get_request_model([pages]),
        exceptions={RuntimeError: 503},
    )

    @api.app.api_route("/files/{name:path}", methods=["GET", "HEAD"])
    def file(name: str, request_range: str = "") -> Response:
        return FileResponse(folder / name)

    @api.app.middleware("http")
    async def count(request, answer):
        if request.url.path.startswith("/files/"):
            client.requests["range" if "range" in request.headers else "whole"] += 1
        return await answer(request)

    @api.app.get("/counts")
    def counts() -> Response:
        return JSONResponse(dict(client.requests))

    uvicorn.run(api.app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
