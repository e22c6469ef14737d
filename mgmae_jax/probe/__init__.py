"""What frozen features tell of the classes: linear and attentive probes, k-nearest neighbours."""
