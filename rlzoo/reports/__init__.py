"""What a run shows: metrics, TensorBoard, the screen, curves and pictures."""
