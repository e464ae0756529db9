"""The gallery: what the team may see of the images that were kept."""
