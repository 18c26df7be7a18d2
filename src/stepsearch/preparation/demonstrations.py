def sample_thoughts():
    return [" plan: author, fact. need author", " again need is so answer."]
