"""What every exporter must do."""

import hashlib
from pathlib import Path

import pytest
from torch import nn

from ..core.errors import ConflictError, UnsupportedError
from ..results.export import EXPORTERS, MANIFEST, Exporter, Manifest, export
from ..spaces import methods
from ..spaces.engine.origin import base_digest
from ..spaces.policy import UpdatePolicy
from .networks import SmallNet, make, traced


class ExporterSuite:
    """Tests of an exporter; the fixture `name` says which, as it is registered."""

    @pytest.fixture
    def name(self) -> str:
        """The exporter's name."""
        raise NotImplementedError("give the exporter's name by a fixture of this name")

    @pytest.fixture
    def backbone(self) -> nn.Module:
        """The network that is exported."""
        return make(SmallNet)

    @pytest.fixture
    def policies(self) -> list[UpdatePolicy]:
        """The policies that are tried; some of them the exporter may lack."""
        return list(methods.named(traced(SmallNet)).values())

    @pytest.fixture
    def exporter(self, name: str) -> Exporter:
        """The exporter itself."""
        made = EXPORTERS.load(name)
        return made() if isinstance(made, type) else made

    def test_it_writes_files_that_the_manifest_tells(
        self, name: str, exporter: Exporter, backbone: nn.Module, policies: list[UpdatePolicy], tmp_path: Path
    ) -> None:
        """With digests of files, policy and backbone; the backbone stays as it was; the same again at every call."""
        able = [policy for policy in policies if not exporter.lacks(policy)]
        assert able, "it can express none of the policies: give others by the fixture `policies`"
        for number, policy in enumerate(able):
            before = base_digest(backbone, policy.head)
            folder = tmp_path / f"{number}"
            files = export(policy, backbone, to=name, out=folder)
            manifest = Manifest.load(folder / MANIFEST)
            assert files == [*(folder / file.path for file in manifest.files), folder / MANIFEST]
            assert {path for path in folder.rglob("*") if path.is_file()} == set(files)
            for file in manifest.files:
                data = (folder / file.path).read_bytes()
                assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert (manifest.exporter, manifest.policy_hash) == (name, policy.hash)
            assert manifest.base_sha256 == before == base_digest(backbone, policy.head)
            export(policy, backbone, to=name, out=tmp_path / f"{number}-again")
            assert Manifest.load(tmp_path / f"{number}-again" / MANIFEST) == manifest

    def test_what_it_cannot_express_is_refused_and_leaves_nothing(
        self, name: str, exporter: Exporter, backbone: nn.Module, policies: list[UpdatePolicy], tmp_path: Path
    ) -> None:
        """In words that say what it is."""
        for policy in policies:
            if lacking := exporter.lacks(policy):
                with pytest.raises(UnsupportedError) as caught:
                    export(policy, backbone, to=name, out=tmp_path / "out")
                assert lacking in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_holds_something_stays_as_it_is(
        self, name: str, exporter: Exporter, backbone: nn.Module, policies: list[UpdatePolicy], tmp_path: Path
    ) -> None:
        """Nothing is overwritten."""
        (tmp_path / "mine.txt").write_text("mine")
        policy = next(policy for policy in policies if not exporter.lacks(policy))
        with pytest.raises(ConflictError, match="not empty"):
            export(policy, backbone, to=name, out=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_it_says_what_it_writes(self, exporter: Exporter) -> None:
        """In a line."""
        assert exporter.summary
        assert "\n" not in exporter.summary
