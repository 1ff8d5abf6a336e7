"""Shapes of windows, and of convolutions over dilated inputs."""
