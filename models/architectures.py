"""Architectures as plain data, and the named ones. Nothing here needs PyTorch.

Facts of the published networks are in the notes of the functions that make them; widths that a publication varies are
arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar

from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.encodings import (
    BitPlaneEncoding,
    Encoding,
    RealEncoding,
    StochasticEncoding,
    ThermometerEncoding,
    encoding_from,
    plain_encoding,
)
from models.exceptions import UserMistake


class Precision(StrEnum):
    """Levels of a weight: -1 and +1; -1, 0 and +1; or real numbers."""

    BINARY = "binary"
    TERNARY = "ternary"
    REAL = "real"


class Activation(StrEnum):
    """What follows batch normalisation: the sign; -1, 0 or +1; hard tanh; or the rectifier."""

    BINARY = "binary"
    TERNARY = "ternary"
    REAL = "real"
    RELU = "relu"


@dataclass(frozen=True)
class Dense:
    """A fully connected hidden layer: weights, batch normalisation, activation, dropout.

    Attributes:
        outputs: neurons.
        weights: levels of its weights.
        activation: what it gives.
        dropout: share of its activations left out while training.
    """

    outputs: int
    weights: Precision = Precision.BINARY
    activation: Activation = Activation.BINARY
    dropout: float = 0.0

    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        """Raise UserMistake for impossible numbers."""
        _check_block(self, self.outputs)


@dataclass(frozen=True)
class Conv:
    """A convolutional layer: weights, pooling of the sums, batch normalisation, activation, dropout.

    Attributes:
        filters: output channels.
        kernel: one number or two; it says whether maps have one dimension or two.
        stride, padding: per dimension; 1 and 0 when empty.
        groups: as of :class:`models.convolution_shapes.ConvolutionShape`.
        padding_value: what stands beyond the edges.
        pool: of the sums.
        weights: levels of its weights.
        activation: what it gives.
        dropout: share of its activations left out while training.
    """

    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1
    padding_value: PaddingValue = PaddingValue.MINUS
    pool: Pool | None = None
    weights: Precision = Precision.BINARY
    activation: Activation = Activation.BINARY
    dropout: float = 0.0

    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        """Raise UserMistake for impossible numbers; sizes are checked once the input is known."""
        for name in ("kernel", "stride", "padding"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_block(self, self.filters)

    def shape(self, size: tuple[int, ...]) -> ConvolutionShape:
        """The convolution on maps of ``size`` (channels first)."""
        channels, *lengths = size
        return ConvolutionShape(
            channels,
            tuple(lengths),
            self.filters,
            self.kernel,
            self.stride,
            self.padding,
            self.groups,
            self.padding_value,
        )


Block = Dense | Conv


def _check_block(block: Block, width: int) -> None:
    object.__setattr__(block, "weights", Precision(block.weights))
    object.__setattr__(block, "activation", Activation(block.activation))
    if width < 1 or not 0.0 <= block.dropout < 1.0:
        raise UserMistake(f"a layer of {width} outputs and a dropout of {block.dropout} is refused")


@dataclass(frozen=True)
class Architecture:
    """A network as plain data.

    Attributes:
        name: what a person asks for.
        encoding: how an image or signal becomes the inputs.
        blocks: the hidden layers.
        classes: number of classes, scored by a fully connected last layer.
        input_noise: standard deviation of the noise added to the pixels while training, in grey levels. It turns the
            inputs of pixels near a threshold at random, which keeps the network from learning small data sets by heart.
        shape: of one image, channels first: (channels, height, width) or (channels, length); (features,) when empty.
        last: levels of the last layer's weights.
        spread: hidden weights start uniform in [-spread, spread].

    Raises:
        UserMistake: sizes that do not fit each other.
    """

    name: str
    encoding: Encoding
    blocks: tuple[Block, ...]
    classes: int
    input_noise: float = 0.0
    shape: tuple[int, ...] = ()
    last: Precision = Precision.BINARY
    spread: float = 0.1

    def __post_init__(self) -> None:
        """Complete the shape, and walk through the sizes once."""
        features = self.encoding.features
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "shape", tuple(self.shape) if self.shape else (features,))
        object.__setattr__(self, "last", Precision(self.last))
        if _volume(self.shape) != features or min(self.shape) < 1:
            raise UserMistake(f"{self.name}: images of the shape {self.shape} do not have {features} features")
        if self.classes < 2 or not 0.0 <= self.input_noise < float("inf") or not 0.0 < self.spread <= 1.0:
            raise UserMistake(
                f"{self.name}: {self.classes} classes, input noise {self.input_noise}, spread {self.spread}: "
                "expected at least 2, 0 or more, above 0 to 1"
            )
        self.sizes()

    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of what each block takes and, last, of what the last layer takes; channels first."""
        levels = self.encoding.width // self.encoding.features
        size = (levels * self.shape[0], *self.shape[1:])
        sizes = [size]
        for index, block in enumerate(self.blocks):
            if isinstance(block, Dense):
                size = (block.outputs,)
            elif len(size) != len(block.kernel) + 1:
                raise UserMistake(
                    f"{self.name}: block {index}, a convolution with a kernel of {block.kernel}, cannot take {size}"
                )
            else:
                places = block.shape(size).output_size
                size = (block.filters, *(places if block.pool is None else block.pool.output_size(places)))
            sizes.append(size)
        return tuple(sizes)

    def with_precision(self, weights: Precision, name: str | None = None) -> Architecture:
        """The same with all weights of other levels."""
        blocks = tuple(replace(block, weights=weights) for block in self.blocks)
        return replace(self, name=self.name if name is None else name, blocks=blocks, last=weights)

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        blocks = [{"kind": block.kind, **asdict(block)} for block in self.blocks]
        return {**asdict(self), "encoding": plain_encoding(self.encoding), "blocks": blocks}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Architecture:
        """What :meth:`to_json` gave; UserMistake for anything else."""
        try:
            fields = dict(plain)
            blocks = tuple(_block(item) for item in fields.pop("blocks"))
            return cls(encoding=encoding_from(fields.pop("encoding")), blocks=blocks, **fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UserMistake(f"the description of an architecture is wrong: {error}") from error


def _block(plain: Mapping[str, Any]) -> Block:
    fields = dict(plain)
    kind = fields.pop("kind")
    if kind == Dense.kind:
        return Dense(**fields)
    if kind != Conv.kind:
        raise UserMistake(f"a block of the kind {kind!r} is unknown; there are: {Dense.kind}, {Conv.kind}")
    pool = fields.pop("pool", None)
    return Conv(pool=None if pool is None else Pool(**pool), **fields)


def _volume(shape: tuple[int, ...]) -> int:
    volume = 1
    for length in shape:
        volume *= length
    return volume


def mlp(
    name: str,
    encoding: Encoding,
    hidden: tuple[int, ...],
    classes: int,
    input_noise: float = 0.0,
    weights: Precision = Precision.BINARY,
    dropout: float = 0.0,
) -> Architecture:
    """A fully connected network with hidden layers of these widths."""
    blocks = tuple(Dense(width, weights, dropout=dropout) for width in hidden)
    return Architecture(name, encoding, blocks, classes, input_noise, last=weights)


def vgg(
    name: str,
    encoding: Encoding,
    shape: tuple[int, int, int],
    classes: int,
    filters: int = 128,
    dense: tuple[int, ...] = (512,),
    weights: Precision = Precision.BINARY,
    activation: Activation = Activation.BINARY,
    padding_value: PaddingValue = PaddingValue.MINUS,
) -> Architecture:
    """Six 3 x 3 convolutions of F, F, 2F, 2F, 4F and 4F filters, every second one pooled, and dense layers.

    The published ternary networks have F = 64 to 256 and one dense layer of 512. Sides are halved three times.
    """
    pool = Pool(PoolKind.MAX, (2, 2))
    convolutions = [
        Conv(
            factor * filters,
            (3, 3),
            padding=(1, 1),
            padding_value=padding_value,
            pool=pool if second else None,
            weights=weights,
            activation=activation,
        )
        for factor in (1, 2, 4)
        for second in (False, True)
    ]
    layers = [Dense(width, weights, activation) for width in dense]
    return Architecture(name, encoding, (*convolutions, *layers), classes, shape=shape, last=weights)


def ecg(
    name: str,
    encoding: Encoding,
    leads: int,
    length: int,
    classes: int = 2,
    filters: int = 32,
    dense: int = 75,
    features: Precision = Precision.BINARY,
    classifier: Precision = Precision.BINARY,
) -> Architecture:
    """Five 1-D convolutions with kernels of 13, 11, 9, 7 and 5, pooled by 2, a dense layer, and the last.

    Args:
        name, encoding, classes: of the architecture.
        leads, length: of a signal.
        filters: of each convolution; the all-binary network makes up for its weights with more of them.
        dense: neurons of the classifier.
        features: levels of the convolutions' weights; real ones have real activations (rectified).
        classifier: levels of the last two layers' weights.
    """
    pool = Pool(PoolKind.MAX, (2,))
    between = Activation.RELU if features is Precision.REAL else Activation.BINARY
    convolutions = [
        Conv(
            filters,
            (kernel,),
            padding=(kernel // 2,),
            padding_value=PaddingValue.ZERO,
            pool=pool,
            weights=features,
            # a binary classifier takes signs
            activation=Activation.BINARY if kernel == 5 and classifier is not Precision.REAL else between,
        )
        for kernel in (13, 11, 9, 7, 5)
    ]
    return Architecture(
        name, encoding, (*convolutions, _classifier(dense, classifier)), classes, shape=(leads, length), last=classifier
    )


def eeg(
    name: str,
    encoding: Encoding,
    electrodes: int,
    length: int,
    classes: int = 2,
    filters: int = 40,
    dense: int = 80,
    features: Precision = Precision.BINARY,
    classifier: Precision = Precision.BINARY,
) -> Architecture:
    """A convolution in time (30 x 1), one over all electrodes (1 x electrodes), summed over 30 every 15, and dense.

    Signals are maps (1, length, electrodes), after Dose et al. 2018; arguments as of :func:`ecg`.
    """
    between = Activation.RELU if features is Precision.REAL else Activation.BINARY
    spatial = Activation.BINARY if classifier is not Precision.REAL else between
    convolutions = (
        Conv(
            filters,
            (30, 1),
            padding=(15, 0),
            padding_value=PaddingValue.ZERO,
            weights=features,
            activation=between,
        ),
        Conv(
            filters,
            (1, electrodes),
            pool=Pool(PoolKind.SUM, (30, 1), (15, 1)),
            weights=features,
            activation=spatial,
        ),
    )
    blocks = (*convolutions, _classifier(dense, classifier))
    return Architecture(name, encoding, blocks, classes, shape=(1, length, electrodes), last=classifier)


def _classifier(dense: int, weights: Precision) -> Dense:
    return Dense(dense, weights, Activation.RELU if weights is Precision.REAL else Activation.BINARY)


_GREY_28 = BitPlaneEncoding(784)
_COLOUR_32 = BitPlaneEncoding(3 * 32 * 32)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        item.name: item
        for item in (
            # 30 tiles of 32 x 32 cells: 6 x 4 for the hidden layer and 6 for the last
            mlp("digits-bnn", ThermometerEncoding(64, (4, 12)), (192,), 10, input_noise=2.0),
            mlp("digits-tnn", ThermometerEncoding(64, (4, 12)), (192,), 10, input_noise=2.0, weights=Precision.TERNARY),
            vgg("digits-conv", ThermometerEncoding(64, (4, 12)), (1, 8, 8), 10, filters=16, dense=(64,)),
            # black and white, so that the array takes it: 25 x 4 tiles and 4
            mlp("mnist-bnn", ThermometerEncoding(784, (128,)), (128,), 10),
            # for the ternary chip: 98 x 4 tiles of 8 x 8 cells and 4 x 2
            mlp("mnist-tnn", ThermometerEncoding(784, (128,)), (32,), 10, weights=Precision.TERNARY),
            # of weak-RESET learning, of the MRAM and digital systems, and of stream learning
            mlp("mnist-3000", _GREY_28, (3000,), 10),
            mlp("mnist-1024-1024", _GREY_28, (1024, 1024), 10),
            mlp("mnist-4096-4096", _GREY_28, (4096, 4096), 10),
            mlp("mnist-stochastic", StochasticEncoding(784), (1024, 1024), 10),
            *(
                vgg(f"cifar10-{kind}-{filters}", _COLOUR_32, (3, 32, 32), 10, filters, weights=weights)
                for kind, weights in (("bnn", Precision.BINARY), ("tnn", Precision.TERNARY))
                for filters in (32, 64, 128, 256)
            ),
            # 12 leads, 10 s down to 1 000 samples; 64 electrodes, 3 s at 160 Hz; both as 8-bit levels
            ecg("ecg-1d", BitPlaneEncoding(12 * 1000), 12, 1000),
            ecg("ecg-1d-real", RealEncoding(12 * 1000), 12, 1000, features=Precision.REAL, classifier=Precision.REAL),
            eeg("eeg", BitPlaneEncoding(480 * 64), 64, 480),
            eeg("eeg-real", RealEncoding(480 * 64), 64, 480, features=Precision.REAL, classifier=Precision.REAL),
        )
    }
)


def architecture(name: str) -> Architecture:
    """Look an architecture up by its name; UserMistake lists the names there are."""
    if name not in ARCHITECTURES:
        raise UserMistake(f"no network is called {name!r}; there are: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
