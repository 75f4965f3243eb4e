"""Colours of code, light and dark; contrast at least 4.5 on the site's code background."""
from pygments.style import Style
from pygments.token import Comment, Error, Keyword, Literal, Name, Number, Operator, Punctuation, String, Token


def _style(text, comment, keyword, string, number, name, op, special):
    return {Token: text, Comment: f'italic {comment}', Keyword: keyword, Keyword.Constant: number, Name: text, Name.Function: name, Name.Class: f'bold {name}',
            Name.Builtin: special, Name.Builtin.Pseudo: special, Name.Decorator: special, Name.Exception: special, Name.Namespace: text, String: string, String.Doc: f'italic {comment}',
            String.Interpol: number, String.Escape: number, Number: number, Literal: number, Operator: op, Operator.Word: keyword, Punctuation: op, Error: text}


class Light(Style):
    background_color = '#f6f7f9'
    styles = _style('#1f2733', '#5d6877', '#9a3412', '#0b6b4f', '#8a4b08', '#0b5a94', '#4a5462', '#6d3fa0')


class Dark(Style):
    background_color = '#171c24'
    styles = _style('#dbe2ea', '#8f9bab', '#f2a273', '#7ad3ae', '#e6c07a', '#7fbcf0', '#a9b4c2', '#c9a6f2')


def css() -> str:
    "Both styles as css, each under its theme."
    from pygments.formatters import HtmlFormatter
    return '\n'.join(HtmlFormatter(style=s).get_style_defs(f'html[data-theme="{n}"] .highlight') for s, n in ((Light, 'light'), (Dark, 'dark')))
