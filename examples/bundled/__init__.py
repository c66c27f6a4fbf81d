"""Parts of the recipe of the bundled backbone: masks, images drawn from them, probes on real images."""
