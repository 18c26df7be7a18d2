"""Other programs in which StepSearch's episodes are played and rewarded."""
