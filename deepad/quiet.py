"""Lightning's notices that are no news to deepad's users, kept off their terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = (
    "pytorch_lightning",
    "lightning_fabric",
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.seed",
)
_KNOWN = (
    "The .*dataloader.* does not have many workers",  # rows in memory are fastest without
    "The number of training batches",  # losses are logged by epoch, not by step
    ".*configure_optimizers. will be overridden",  # what an optimizer in a config is for
    "(Checkpoint|Experiment logs) directory .* exists and is not empty",  # a run resumed or replaced
    ".*treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.14
    r"\s*(By default only one Jsonargparse|``instantiate_classes`` was deprecated)",  # Lightning 2.6's parser
    ".*tensorboardX. has been removed",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Warnings stay warnings and errors stay errors; tips and hardware notices are silent inside."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _KNOWN:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
