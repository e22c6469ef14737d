"""The paper's idea: which tokens the encoder sees, as pure functions of one clip."""
