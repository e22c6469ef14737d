"""How well frozen features separate the classes: linear and attentive probes, k-nearest neighbours."""
