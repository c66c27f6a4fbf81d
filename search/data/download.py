"""Downloads with a checksum into the cache."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import MissingDataError
from ...core.files import cache_folder

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its address and its checksum, as `md5:...` or `sha256:...`."""

    url: str
    checksum: str

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


def fetch(remote: RemoteFile) -> Path:
    """The local copy of a file, downloaded on the first call and checked on every one.

    Raises:
        MissingDataError: It cannot be reached, or its checksum is wrong; nothing is kept then.
    """
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, progressbar=sys.stderr.isatty())
    try:
        return Path(
            pooch.retrieve(
                remote.url, remote.checksum, fname=remote.file_name, path=cache_folder(), downloader=downloader
            )
        )
    except ValueError as error:
        # pooch's own word for a checksum that does not match.
        raise MissingDataError(f"{remote.url} is not the file expected (checksum differs): try later") from error
    except requests.RequestException as error:
        raise MissingDataError(f"{remote.url} could not be downloaded ({type(error).__name__})") from error
    except OSError as error:
        raise MissingDataError(f"{remote.url} could not be kept in {cache_folder()}: {error}") from error
