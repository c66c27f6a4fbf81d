"""How it is found: data, episodes, proxies, samplers and the run itself."""
