"""What operations without weights are called, and what may stand for their derivatives; known without torch."""

#: Activations that are exact with one bit an element, and those for which a sign mask is worth choosing.
EXACT_MASK = frozenset({"relu", "relu6", "hardsigmoid"})
SIGN_MASK = frozenset({"relu6", "hardswish", "silu"})
#: Activations whose exact derivative can be read off their output.
READ_OFF_OUTPUT = frozenset({"relu", "relu6"})
