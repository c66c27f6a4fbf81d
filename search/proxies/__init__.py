"""How a policy's accuracy is judged without full fine-tuning."""

#: Proxies by name, with what each is.
PROXIES = {"few-shot": "accuracy after a short fine-tuning on episodes of the training split"}
