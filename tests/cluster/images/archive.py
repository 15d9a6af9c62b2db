#!/usr/bin/env python3
"""archive.py DIR NAME:TAG ARCH OUT.tar CMD… — an image of one layer from a directory, as `docker save` writes them.

For the lab's own two images, which setup.sh makes before anything of Rust is built.
"""
import hashlib
import io
import json
import sys
import tarfile

source, name, architecture, out, *command = sys.argv[1:]


def plain(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
    archive.add(source, arcname=".", filter=plain)
layer = buffer.getvalue()
digest = hashlib.sha256(layer).hexdigest()
created = "1970-01-01T00:00:00Z"
config = json.dumps({
    "architecture": architecture,
    "os": "linux",
    "created": created,
    "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    "history": [{"created": created, "created_by": "archive.py"}],
}).encode()
config_name = hashlib.sha256(config).hexdigest() + ".json"
layer_name = digest + "/layer.tar"
manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
with tarfile.open(out, "w") as archive:
    for path, data in ((config_name, config), (layer_name, layer), ("manifest.json", manifest)):
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
