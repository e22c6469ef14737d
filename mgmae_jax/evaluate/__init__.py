"""Multi-view accuracy of a classifier: every video once, predictions that survive an interruption, reports."""
