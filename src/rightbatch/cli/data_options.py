"""The options that say which data to open, how to split them and how to scale them."""

from __future__ import annotations

from dataclasses import fields

import click

from rightbatch.cli.parameters import (
    Choice,
    held_out,
    image_size,
    most_bad,
    names,
    stacked,
    themed,
)
from rightbatch.options import DEFAULT_HELD_OUT, ON_DUPLICATES, DataOptions

# What the library calls valid, repeated so that the help need not import it; a test compares.
CATEGORIES = ("codes", "one-hot")
ON_BAD_SAMPLE = ("stop", "quarantine")

TOKENIZERS = ("characters", "bytes")

_defaults = {field.name: field.default for field in fields(DataOptions)}
_reading = themed("Reading the data")
_splitting = themed("Splitting")
_sampling = themed("Sampling")
_decoding = themed("Images")
_scaling = themed("Scaling")

image_size_option = _decoding(
    "--image-size",
    type=image_size,
    metavar="PIXELS|HEIGHTxWIDTH",
    help="Decode images to this size, the largest piece in the middle of each.  "
    "[default: a folder of images stays as it is encoded]",
)

reading_options = stacked(
    _reading(
        "--target",
        metavar="COLUMN",
        help="Column to learn, by name or position (-1 is the last).  "
        "[default: what the data bring, if anything]",
    ),
    _reading(
        "--columns",
        type=names,
        metavar="A,B,C",
        help="Input columns to keep, by name or position.  [default: all]",
    ),
    _reading(
        "--header/--no-header",
        default=None,
        help="Whether the first row of a CSV file holds the names.  "
        "[default: yes, unless it looks like data]",
    ),
    _reading(
        "--missing",
        metavar="refuse|drop|fill|fill:VALUE",
        default=_defaults["missing"],
        show_default=True,
        help="What to do with missing values: refuse the data, drop the rows, or fill with 0 "
        "(text: 'missing') or VALUE.",
    ),
    _reading(
        "--categories",
        type=Choice(CATEGORIES),
        default=_defaults["categories"],
        show_default=True,
        help="What becomes of text columns: a code each, or a 0/1 input for every category.",
    ),
    _reading(
        "--on-bad-sample",
        type=Choice(ON_BAD_SAMPLE),
        default=_defaults["on_bad_sample"],
        show_default=True,
        help="At a CSV row of the wrong length or a sample that can not be read: stop, or leave "
        "it out and list it.",
    ),
    _reading(
        "--max-bad",
        type=most_bad,
        metavar="COUNT|SHARE",
        help="How many of them quarantine may leave out before it stops.",
    ),
    _reading(
        "--sequence-length",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="Text, or codes in a .npy, as windows of so many tokens, each to be told what follows "
        "it.",
    ),
    _reading(
        "--stride",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="How many tokens further each window begins.  [default: the sequence length]",
    ),
    _reading(
        "--tokenizer",
        type=Choice(TOKENIZERS),
        help="What the tokens of a text are.  [default: characters]",
    ),
)

data_options = stacked(
    reading_options,
    _splitting(
        "--val",
        type=held_out,
        metavar="SHARE|COUNT",
        default=_defaults["val"],
        show_default=True,
        help="Held out for validation: a share of the whole or a count; 0 for none.",
    ),
    _splitting(
        "--test",
        type=held_out,
        metavar="SHARE|COUNT",
        help="Held out for the final test, in the same way.  "
        f"[default: the data's own test part, or else {DEFAULT_HELD_OUT}]",
    ),
    _splitting("--stratify", is_flag=True, help="Keep the shares of the classes in every part."),
    _splitting(
        "--group",
        metavar="COLUMN",
        help="Keep samples that share a value of COLUMN in one part.",
    ),
    _sampling(
        "--weights",
        metavar="COLUMN|balanced",
        help="Draw training samples with replacement, as often as COLUMN says, which is no input "
        "then, or all classes equally often.  [default: each once an epoch]",
    ),
    _splitting(
        "--on-duplicates",
        type=Choice(ON_DUPLICATES),
        default=_defaults["on_duplicates"],
        show_default=True,
        help="What to do about samples of equal inputs in two parts: count them, refuse them, or "
        "keep them together.",
    ),
    _splitting(
        "--contiguous",
        is_flag=True,
        help="Cut the samples in their order: train first, then validation, then test.",
    ),
    _splitting(
        "--seed",
        type=int,
        default=_defaults["seed"],
        show_default=True,
        help="The seed of the split, the order and the initial weights.",
    ),
    image_size_option,
    _decoding(
        "--random-crop",
        is_flag=True,
        help="In training, decode a piece of each image that is drawn anew every epoch.",
    ),
    _decoding(
        "--random-flip",
        is_flag=True,
        help="In training, mirror half of the images, left to right, drawn anew every epoch.",
    ),
    _scaling(
        "--standardize",
        is_flag=True,
        help="Subtract each input's mean and divide by its standard deviation, both of the "
        "training part alone; of images by channel.",
    ),
    _scaling(
        "--scale/--no-scale",
        default=None,
        help="Divide uint8 inputs by 255.  [default: images of uint8 are, others are not]",
    ),
)
