"""A record's files are found in every shape in which the API has listed them."""

import json

import pytest

from zoobot_3d.errors import FetchError
from zoobot_3d.simulate.faulty_server import LoopbackServer, Response
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.zenodo import RemoteFile, list_record, parse_record

RECORD = "https://zenodo.org/api/records/12"
FAST = FetchOptions(rate=0, first_wait=0.001, attempts=2)


def entry(**links):
    return {"key": "a b.parquet", "size": 7, "checksum": "md5:ab12", "links": links}


@pytest.mark.parametrize(
    ("files", "url"),
    [
        (
            [entry(self="https://zenodo.org/api/files/0f1e/a b.parquet")],
            "https://zenodo.org/api/files/0f1e/a b.parquet",
        ),
        ([entry(self=f"{RECORD}/files/a b.parquet/content")], f"{RECORD}/files/a b.parquet/content"),
        (
            {"enabled": True, "entries": [entry(self=f"{RECORD}/files/a b", content=f"{RECORD}/files/a b/content")]},
            f"{RECORD}/files/a b/content",
        ),
        ({"entries": {"a b.parquet": entry()}}, f"{RECORD}/files/a%20b.parquet/content"),
    ],
)
def test_shapes_of_a_record(files, url):
    assert parse_record({"files": files}, RECORD) == {"a b.parquet": RemoteFile("a b.parquet", 7, "md5:ab12", url)}


@pytest.mark.parametrize("document", [{}, {"files": []}, {"files": {"enabled": False}}])
def test_a_record_without_files(document):
    assert parse_record(document, RECORD) == {}


def test_an_entry_that_cannot_be_understood():
    with pytest.raises(FetchError, match=r"records/12: an entry .* \(KeyError: 'checksum'\)"):
        parse_record({"files": [{"key": "a", "size": 1}]}, RECORD)


def test_files_may_have_an_address_of_their_own():
    bodies = {"/12": {"files": {"enabled": True}}, "/12/files": {"entries": [entry(content="there")]}}
    routes = {"/": lambda request: Response(json.dumps(bodies[request.path]).encode(), "application/json")}
    with LoopbackServer(routes) as server, FAST.client() as client:
        assert list_record(client, 12, server.url)["a b.parquet"].url == "there"


def test_an_answer_that_is_no_record():
    with LoopbackServer({"/": lambda request: Response(b"[1, 2]", "application/json")}) as server:
        with FAST.client() as client, pytest.raises(FetchError, match=r"/12: not the JSON of a record \(2 attempts\)"):
            list_record(client, 12, server.url)
        assert server.count("/12") == 2
