"""Running models on images, videos, and images too large for memory."""
