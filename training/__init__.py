"""From labelled clips to a trained violence classifier: decode, extract, store, train, evaluate, report."""
