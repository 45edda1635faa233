"""The Hugging Face hub as its client sees it: a real HTTP server with repositories in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub:
    """Takes commits, and serves their files; large ones by way of the store, as the hub does.

    Attributes:
        address: what `HF_ENDPOINT` has to be.
        commits: for each repository its commits in order, each a dictionary of files.
        cards: the cards whose metadata the client had checked.
        tokens: what the requests that write said of who they are.
        stored: the large files, by their SHA-256.
        gets: the paths of the requests for files' contents.
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.cards: list[str] = []
        self.tokens: set[str | None] = set()
        self.stored: dict[str, bytes] = {}
        self.gets: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Adds files to a repository, and returns the name of the commit."""
        commits = self.commits[repository]
        commits.append({**(commits[-1] if commits else {}), **files})
        return sha(repository, len(commits))

    def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """The files of a revision; None where there is no such one."""
        commits = self.commits[repository]
        if revision == "main":
            return commits[-1] if commits else {}
        names = {sha(repository, number + 1): files for number, files in enumerate(commits)}
        return names.get(revision)

    def stop(self) -> None:
        """No connection is taken any more."""
        self._server.shutdown()
        self._server.server_close()


def sha(repository: str, number: int) -> str:
    return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):  # noqa: N802
        self.do_GET()

    def do_GET(self):  # noqa: N802
        path = urllib.parse.urlsplit(self.path).path
        if matched := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._with_files(
                *matched.groups(),
                lambda name, commit, files: self._json(
                    {"id": name, "sha": commit, "siblings": [*map(_sibling, files.items())]}
                ),
            )
        elif matched := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._with_files(
                *matched.groups(),
                lambda name, commit, files: self._json([_entry(*each) for each in files.items()]),
            )
        elif matched := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._with_files(
                *matched.groups()[:2],
                lambda name, commit, files: self._file(files.get(matched[3]), commit),
            )
        else:
            self._refuse("EntryNotFound")

    def do_PUT(self):  # noqa: N802
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.stored[self.path.rpartition("/")[2]] = content
        self._answer(b"")

    def do_POST(self):  # noqa: N802
        path, body = urllib.parse.urlsplit(self.path).path, self._body()
        if path == "/api/validate-yaml":
            self.hub.cards.append(json.loads(body)["content"])
            return self._json({"errors": [], "warnings": []})
        self.hub.tokens.add(self.headers.get("Authorization"))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.commits.setdefault(name, [])
            return self._json({"url": f"{self.hub.address}/{name}"})
        if matched := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            return self._json({"files": [_mode(each) for each in json.loads(body)["files"]]})
        if matched := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            store = {"header": {}, "href": ""}
            actions = [
                {**each, "actions": {"upload": {**store, "href": self._store(each["oid"])}}}
                for each in objects
            ]
            return self._json({"transfer": "basic", "objects": actions})
        if matched := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            commit = self.hub.commit(matched[1], dict(self._committed(body)))
            url = f"{self.hub.address}/{matched[1]}/commit/{commit}"
            return self._json({"success": True, "commitOid": commit, "commitUrl": url})
        return self._refuse("EntryNotFound")

    def _store(self, oid):
        return f"{self.hub.address}/store/{oid}"

    def _committed(self, body):
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                yield entry["value"]["path"], base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                yield entry["value"]["path"], self.hub.stored[entry["value"]["oid"]]

    def _body(self):
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _with_files(self, name, revision, answer):
        if name not in self.hub.commits:
            return self._refuse("RepoNotFound")
        revision = urllib.parse.unquote(revision or "main")
        files = self.hub.files(name, revision)
        if files is None:
            return self._refuse("RevisionNotFound")
        main = sha(name, len(self.hub.commits[name]))
        return answer(name, main if revision == "main" else revision, files)

    def _file(self, content, commit):
        if content is None:
            return self._refuse("EntryNotFound")
        if self.command == "GET":
            self.hub.gets.append(self.path)
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _json(self, content):
        self._answer(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code):
        self._answer(b"", {"X-Error-Code": code}, 404)

    def _answer(self, content, headers=None, status=200):
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.close_connection = True  # nothing is said any more once it has been stopped
            for name, value in {
                "Content-Length": str(len(content)),
                "Connection": "close",
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def _entry(path, content):
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _sibling(file):
    return {"rfilename": file[0], "size": len(file[1])}


def _mode(file):
    large = "lfs" if file["path"].endswith(".npz") else "regular"
    return {"path": file["path"], "uploadMode": large, "shouldIgnore": False}
