#!/usr/bin/env python3
"""Makes the tests' image without a registry: Debian's static busybox as an archive.

    busybox.py FILE.tar

The archive has the form of `docker save`, which docker, containerd and podman all load, and is the same for the
same busybox. Beside the usual links to busybox it holds what single checks ask for: `/etc/not-executable`, and
`/home/app` owned by the user app (1000).
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

NAME = "gabion.test/busybox:1"
BUSYBOX = "/bin/busybox"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main():
    with open(sys.argv[1], "wb") as file:
        write(file)


def write(file):
    """Writes the image's archive."""
    archive(file, NAME, root_file_system(), {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"],
                                             "WorkingDir": "/"})


def archive(file, image, layer, settings):
    """Writes an image of one layer with the settings of its containers."""
    config = json.dumps({
        "architecture": ARCHITECTURES[os.uname().machine],
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "busybox.py"}],
    }).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [image], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path, content in [(name, config), ("layer.tar", layer), ("manifest.json", manifest)]:
            add_file(tar, path, content)


def root_file_system():
    """The one layer, as a tar."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    with open(BUSYBOX, "rb") as file:
        busybox = file.read()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, mode in [("bin", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755), ("root", 0o700),
                           ("sys", 0o755), ("dev", 0o755), ("tmp", 0o1777), ("var", 0o755)]:
            add_directory(tar, path, mode)
        add_directory(tar, "home/app", 0o755, owner=1000)
        add_file(tar, "bin/busybox", busybox, 0o755)
        for applet in sorted(set(applets) - {"busybox"}):
            link = tarfile.TarInfo("bin/" + applet)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n")
        add_file(tar, "etc/group", b"root:x:0:\napp:x:1000:\n")
        add_file(tar, "etc/not-executable", b"nothing to run\n")
    return layer.getvalue()


def add_file(tar, path, content, mode=0o644):
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def add_directory(tar, path, mode, owner=0):
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
    tar.addfile(entry)


if __name__ == "__main__":
    main()
