"""The laws as a kit, for people who write a source or a loader of their own."""

from rightbatch.testing.dataset_kit import check_dataset
from rightbatch.testing.ranks_kit import check_ranks
from rightbatch.testing.resume_kit import Resumable, check_resume

__all__ = ["Resumable", "check_dataset", "check_ranks", "check_resume"]
