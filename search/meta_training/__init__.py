"""Meta-training: a pretrained backbone learns from few-shot tasks of a source set, before it goes to a device."""

from .front import MetaTrained, meta_train

__all__ = ["MetaTrained", "meta_train"]
