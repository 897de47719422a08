"""Small bundles in the shapes of published ones: each module's ``build(folder)`` writes a bundle and its data, returns both."""
