"""Small bundles in the shapes of published ones: ``build(folder)`` of each module writes a bundle and its data; returns both folders."""
