"""Everything that StepSearch raises on purpose.

    StepSearchError
      ConfigError       a setting is unknown, of the wrong type, or impossible with another
      DataError         a file is missing, malformed or empty
      SearchError       a search engine cannot be built, or failed for good
        SearchUnavailableError   the engine as a whole gives no answer, whatever is asked
      EndpointError     a chat endpoint cannot be used, or does not answer any more
      ModelError        a model, tokenizer or checkpoint cannot be used
      TrainingError     training cannot go on (non-finite loss, nothing to train on)
        ProcessLostError   another process of the run is gone

The message of each is one line for a person: what is wrong, where (file, line or key), and how to mend it. The
command line prints it and exits with code 2 (3 for a ProcessLostError).
"""


class StepSearchError(Exception):
    """Base of every error whose message is meant for the user."""


class ConfigError(StepSearchError):
    """A setting is unknown, of the wrong type, or impossible together with another."""


class DataError(StepSearchError):
    """A data file is missing, malformed or empty."""


class SearchError(StepSearchError):
    """A search engine cannot be built, or failed for good."""


class SearchUnavailableError(SearchError):
    """The engine as a whole gives no answer: asking again at once, or for each query alone, is pointless."""


class EndpointError(StepSearchError):
    """A chat endpoint cannot be used, or does not answer any more."""


class ModelError(StepSearchError):
    """A model, tokenizer or checkpoint cannot be used."""


class TrainingError(StepSearchError):
    """Training cannot go on."""


class ProcessLostError(TrainingError):
    """Another process of the run is gone: the cause is what that one says."""


def one_line(error: Exception | str, longest: int = 200) -> str:
    """Return what a package says of a failure, on one line; of a long text the sentences, or else the words, that fit.

    Args:
        error: the exception, or a text in place of one. An exception without a text is told by its type.
        longest: characters.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= longest:
        return text
    head = text[: longest - 1]
    sentences = head.rpartition(". ")[0]
    if len(sentences) > longest // 2:
        return sentences
    return f"{head.rpartition(' ')[0] or head}…"
