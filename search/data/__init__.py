"""Images to adapt to: built-in data sets, array files, and folders or archives of class folders."""

from .catalogue import DATASETS, DatasetInfo, list_datasets, load_dataset
from .images import Dataset, ImageSplit

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "ImageSplit", "list_datasets", "load_dataset"]
