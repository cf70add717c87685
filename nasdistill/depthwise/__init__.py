"""Depthwise convolutions whose gradients take about as long as their forward pass on a processor."""
