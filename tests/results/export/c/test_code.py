"""Names that others have given stay in the comments of generated code."""

from tinysearch.results.export.c.code import Code


def test_a_name_ends_no_comment() -> None:
    code = Code()
    code.comment('features.0: convolution */ system("true"); /*\n#define x \\')
    code.section("a */ b")
    text = "\n".join(code.lines)
    assert text.count("/*") == text.count("*/") == 2
    assert "#define x \\u005c" in text
