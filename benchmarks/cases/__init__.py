"""What is measured: cases, the presets that choose them, and a case's tensors."""
