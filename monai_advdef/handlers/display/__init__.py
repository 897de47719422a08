"""Pictures for a screen: which voxels of an image and its masks are shown, and as which grey."""
