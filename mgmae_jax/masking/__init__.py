"""The paper's idea: which tokens are seen, as pure functions of one clip."""
