"""The image of a pod's first container: Debian's static catatonit, which waits for the pod's end and meanwhile for its
children, as Kubernetes' own pause does."""

import io
import tarfile

from images.busybox import add_directory, add_file, archive

NAME = "gabion.test/pause:1"
CATATONIT = "/usr/bin/catatonit"


def write(file):
    """Writes the image's archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path in ["dev", "etc", "proc", "sys"]:
            add_directory(tar, path, 0o755)
        with open(CATATONIT, "rb") as program:
            add_file(tar, "pause", program.read(), 0o755)
    # As Kubernetes' own: an ordinary user.
    archive(file, NAME, layer.getvalue(), {"Entrypoint": ["/pause", "-P"], "User": "65535:65535"})
