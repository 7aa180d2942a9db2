"""Models of other libraries, whole: one function a model, one file a field."""
