"""SCE beyond recommending: the head of a small language model, trained with every loss of the lab.

The text is the source of Python's standard library, which every machine has, or one of one's own. A language model is
asked for probabilities, not only for a ranking: perplexity, always by the whole vocabulary, shows which losses leave
one behind.

    >>> from sce_lab.language import evaluation_batches, read_corpus, train_language_model
    >>> corpus = read_corpus(4096)
    >>> windows = evaluation_batches(corpus.validation, 16, 64)
    >>> for progress in train_language_model(corpus, steps=100, evaluate_at={50, 100}, evaluate_on=windows):
    ...     if progress.quality:
    ...         print(progress.step, progress.quality.perplexity)
"""

from sce_lab.language.corpus import Corpus, read_corpus
from sce_lab.language.evaluation import Correction, Quality, evaluate_language, unigram_nats
from sce_lab.language.fitting import corrections, fitted_bias, fitted_scale
from sce_lab.language.records import read_all, read_language, record_path, run_study
from sce_lab.language.study import CAP, ENTRIES, Entry, Study, train_entry
from sce_lab.language.training import LANGUAGE_CONFIG, Progress, train_language_model
from sce_lab.language.windows import evaluation_batches, training_batch

__all__ = [
    "CAP",
    "ENTRIES",
    "LANGUAGE_CONFIG",
    "Corpus",
    "Correction",
    "Entry",
    "Progress",
    "Quality",
    "Study",
    "corrections",
    "evaluate_language",
    "evaluation_batches",
    "fitted_bias",
    "fitted_scale",
    "read_all",
    "read_corpus",
    "read_language",
    "record_path",
    "run_study",
    "train_entry",
    "train_language_model",
    "training_batch",
    "unigram_nats",
]
