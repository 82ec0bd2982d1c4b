"""Captions of circled parts: red-annulus prompts, vision-language backends, the summary by a LLaMA."""
