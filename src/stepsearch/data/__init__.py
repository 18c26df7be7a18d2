"""Questions and corpora: the benchmarks' own files, the processed format, knowledge bases, the training dataset."""

from stepsearch.data.benchmark import Benchmark
from stepsearch.data.dataset import StepSearchDataset
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.data.processed import write_processed
from stepsearch.data.question_files import read_question_file, read_questions
from stepsearch.data.readers import READERS, find_benchmark_file, read_benchmark
from stepsearch.data.search_keys import fill_references, reference_queries, split_relation

__all__ = [
    "READERS",
    "Benchmark",
    "KnowledgeBase",
    "StepSearchDataset",
    "fill_references",
    "find_benchmark_file",
    "read_benchmark",
    "read_question_file",
    "read_questions",
    "reference_queries",
    "split_relation",
    "write_processed",
]
