"""PyTorch: what torch.save wrote in any of its forms, and .safetensors."""
