"""Depthwise and separable convolutions that train as fast as their arithmetic on a processor."""
