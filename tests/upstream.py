"""A local server that answers as arXiv, Hugging Face and others do; and a clock that waits at once."""

import gzip
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)  # a Thursday


class Clock:
    """Time that passes only by waiting."""

    def __init__(self, start: datetime = NOW):
        self.time, self.waits = start.timestamp(), list[float]()

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)


@dataclass
class Reply:
    """An answer: cut off after ``cut`` bytes where that is given."""

    body: str | bytes = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    zipped: bool = False


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    at: float

    @property
    def query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}


class Upstream:
    """A server on this machine. ``answer`` is called with each request and says what is sent.

    ``most`` is how many requests were under way at once.
    """

    def __init__(self, answer: Callable[[Asked], Reply] | None = None):
        self.answer = answer or (lambda asked: Reply("", 404))
        self.asked: list[Asked] = []
        self.most = self.current = 0
        lock = threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, time.time())
                with lock:
                    upstream.asked.append(asked)
                    upstream.current += 1
                    upstream.most = max(upstream.most, upstream.current)
                try:
                    reply = upstream.answer(asked)
                    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
                    body = gzip.compress(body) if reply.zipped else body
                    self.send_response(reply.status)
                    headers = {"Content-Length": str(len(body)), "Connection": "close"} | reply.headers
                    headers |= {"Content-Encoding": "gzip"} if reply.zipped else {}
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body if reply.cut is None else body[: reply.cut])
                finally:
                    with lock:
                        upstream.current -= 1
                    self.close_connection = True

            def log_message(self, format, *args):
                return None

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                return None  # a client that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@dataclass(frozen=True)
class Paper:
    """A paper as the servers below tell of it."""

    number: str
    title: str
    abstract: str = "We follow the gradient, and it leads somewhere."
    authors: tuple[str, ...] = ("Ada Example", "Émile Sample")
    day: str = "2026-11-24"
    version: int = 1
    categories: tuple[str, ...] = ("cs.LG", "math.OC")
    announce: str = "new"
    votes: int = 1
    doi: str = ""


def papers(count: int, day: str = "2026-11-24", first: int = 0, **more) -> list[Paper]:
    """So many papers of a day, with numbers and titles of their own."""
    year, month, date = day[2:].split("-")
    numbers = range(first, first + count)
    return [Paper(f"{year}{month}.{date}{i:03d}", f"On the descent of order {i}", day=day, **more) for i in numbers]


def api(found: list[Paper], total: int, start: int = 0) -> str:
    """arXiv's search: Atom with OpenSearch's counts."""
    entries = "".join(
        f"""
  <entry>
    <id>http://arxiv.org/abs/{p.number}v{p.version}</id>
    <title>{escape(p.title)}</title>
    <updated>{p.day}T17:59:59Z</updated>
    <link href="https://arxiv.org/abs/{p.number}v{p.version}" rel="alternate" type="text/html"/>
    <summary>  {escape(p.abstract)}
</summary>
    {"".join(f'<category term="{c}" scheme="http://arxiv.org/schemas/atom"/>' for c in sorted(p.categories))}
    <published>{p.day}T17:59:59Z</published>
    <arxiv:comment>12 pages</arxiv:comment>
    <arxiv:primary_category term="{p.categories[0]}"/>
    {f"<arxiv:doi>{p.doi}</arxiv:doi>" if p.doi else ""}
    {"".join(f"<author><name>{escape(a)}</name></author>" for a in p.authors)}
  </entry>"""
        for p in found
    )
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom"
 xmlns="http://www.w3.org/2005/Atom">
  <id>https://arxiv.org/api/cHxbiOdZaP56ODnBPIenZhzg5f8</id>
  <title>arXiv Query: search_query=cat:cs.LG</title>
  <updated>2026-11-26T12:00:00Z</updated>
  <opensearch:itemsPerPage>{len(found)}</opensearch:itemsPerPage>
  <opensearch:totalResults>{total}</opensearch:totalResults>
  <opensearch:startIndex>{start}</opensearch:startIndex>{entries}
</feed>"""


def search(everything: list[Paper]) -> Callable[[Asked], Reply]:
    """arXiv's search over some papers: windows of days, slices, ascending."""

    def answer(asked: Asked) -> Reply:
        since, until = re.search(r"submittedDate:\[(\d+) TO (\d+)\]", asked.query["search_query"]).groups()
        start, number = int(asked.query["start"]), int(asked.query["max_results"])
        fitting = [p for p in everything if since <= p.day.replace("-", "") + "1759" <= until]
        fitting.sort(key=lambda p: (p.day, p.number))
        return Reply(api(fitting[start : start + number], len(fitting), start))

    return answer


def rss(found: list[Paper], day: str = "2026-11-26") -> str:
    """arXiv's announcements."""
    when = datetime.fromisoformat(day).strftime("%a, %d %b %Y 00:00:00 -0500")
    items = "".join(
        f"""
    <item>
      <title>{escape(p.title)}</title>
      <link>https://arxiv.org/abs/{p.number}</link>
      <description>arXiv:{p.number}v{p.version} Announce Type: {p.announce} 
Abstract: {escape(p.abstract)}</description>
      <guid isPermaLink="false">oai:arXiv.org:{p.number}v{p.version}</guid>
      {"".join(f"<category>{c}</category>" for c in p.categories)}
      <pubDate>{when}</pubDate>
      <arxiv:announce_type>{p.announce}</arxiv:announce_type>
      <dc:rights>http://creativecommons.org/licenses/by/4.0/</dc:rights>
      <dc:creator>{escape(", ".join(p.authors))}</dc:creator>
    </item>"""
        for p in found
    )
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<rss xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:atom="http://www.w3.org/2005/Atom" xmlns:content="http://purl.org/rss/1.0/modules/content/" version="2.0">
  <channel>
    <title>cs.LG updates on arXiv.org</title>
    <link>http://rss.arxiv.org/rss/cs.LG</link>
    <description>cs.LG updates on the arXiv.org e-print archive.</description>
    <atom:link href="http://rss.arxiv.org/rss/cs.LG" rel="self" type="application/rss+xml"/>
    <docs>http://www.rssboard.org/rss-specification</docs>
    <language>en-us</language>
    <lastBuildDate>{when.replace("00:00:00", "00:00:05")}</lastBuildDate>
    <managingEditor>rss-help@arxiv.org</managingEditor>
    <pubDate>{when}</pubDate>
    <skipDays>
      <day>Sunday</day>
      <day>Saturday</day>
    </skipDays>{items}
  </channel>
</rss>"""


def atom_announcements(found: list[Paper], day: str = "2026-11-26") -> str:
    """arXiv's announcements as Atom."""
    entries = "".join(
        f"""
  <entry>
    <id>oai:arXiv.org:{p.number}v{p.version}</id>
    <title>{escape(p.title)}</title>
    <updated>{day}T05:00:08.186434+00:00</updated>
    <link href="https://arxiv.org/abs/{p.number}" rel="alternate" type="text/html"/>
    <summary>arXiv:{p.number}v{p.version} Announce Type: {p.announce}
Abstract: {escape(p.abstract)}</summary>
    {"".join(f'<category term="{c}"/>' for c in p.categories)}
    <published>{day}T00:00:00-05:00</published>
    <arxiv:announce_type>{p.announce}</arxiv:announce_type>
    <dc:creator>{escape(", ".join(p.authors))}</dc:creator>
  </entry>"""
        for p in found
    )
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns="http://www.w3.org/2005/Atom" xml:lang="en-us">
  <id>http://rss.arxiv.org/atom/cs.LG</id>
  <title>cs.LG updates on arXiv.org</title>
  <updated>{day}T05:00:08.042119+00:00</updated>{entries}
</feed>"""


def oai(found: list[Paper], token: str = "", gone: tuple[str, ...] = (), day: str = "2026-11-26") -> str:
    """An OAI-PMH server's records in arXiv's format; ``gone`` are numbers of deleted records."""

    def author(name: str) -> str:
        first, _, last = name.rpartition(" ")
        return f"<author><keyname>{escape(last)}</keyname><forenames>{escape(first)}</forenames></author>"

    records = "".join(
        f"""
  <record>
   <header><identifier>oai:arXiv.org:{p.number}</identifier><datestamp>{p.day}</datestamp><setSpec>cs:cs:LG</setSpec></header>
   <metadata>
    <arXiv xmlns="http://arxiv.org/OAI/arXiv/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
     <id>{p.number}</id><created>{p.day}</created><authors>{"".join(map(author, p.authors))}</authors>
     <title>{escape(p.title)}</title><categories>{" ".join(p.categories)}</categories><comments>12 pages</comments>
     {f"<doi>{p.doi}</doi>" if p.doi else ""}
     <license>http://creativecommons.org/licenses/by/4.0/</license><abstract>  {escape(p.abstract)}
</abstract></arXiv>
   </metadata>
  </record>"""
        for p in found
    )
    records += "".join(
        f'<record><header status="deleted"><identifier>oai:arXiv.org:{number}</identifier>'
        f"<datestamp>{day}</datestamp></header></record>"
        for number in gone
    )
    following = f'<resumptionToken expirationDate="2026-11-27T00:00:00Z">{token}</resumptionToken>'
    body = f"<ListRecords>{records}{following}</ListRecords>"
    return oai_page(body, day)


def oai_page(body: str, day: str = "2026-11-26") -> str:
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><responseDate>{day}T12:00:00Z</responseDate>
<request verb="ListRecords" metadataPrefix="arXiv" set="cs">http://oaipmh.arxiv.org/oai</request>{body}</OAI-PMH>"""


def daily(found: list[Paper]) -> str:
    """Hugging Face's daily papers."""
    return json.dumps(
        [
            {
                "paper": {
                    "id": p.number,
                    "authors": [{"_id": "65b", "name": name, "hidden": False} for name in p.authors],
                    "publishedAt": f"{p.day}T17:59:59.000Z",
                    "submittedOnDailyAt": f"{p.day}T03:00:00.000Z",
                    "title": p.title,
                    "summary": p.abstract,
                    "upvotes": p.votes,
                    "ai_keywords": ["gradient"],
                },
                "publishedAt": f"{p.day}T22:00:00.000Z",
                "title": p.title,
                "summary": p.abstract,
                "thumbnail": f"https://cdn-thumbnails.huggingface.co/social-thumbnails/papers/{p.number}.png",
                "numComments": 2,
                "submittedBy": {"fullname": "A Reader", "type": "user"},
            }
            for p in found
        ]
    )


def json_feed(found: list[Paper]) -> str:
    """A JSON Feed 1.1."""
    items = [
        {
            "id": f"https://blog.example/{p.number}",
            "url": f"https://blog.example/{p.number}",
            "external_url": f"https://arxiv.org/abs/{p.number}",
            "title": p.title,
            "content_html": f"<p>{escape(p.abstract)}</p>",
            "date_published": f"{p.day}T10:00:00+01:00",
            "authors": [{"name": name} for name in p.authors],
        }
        for p in found
    ]
    return json.dumps({"version": "https://jsonfeed.org/version/1.1", "title": "A blog", "items": items})


def days_before(count: int) -> str:
    return (NOW - timedelta(days=count)).date().isoformat()
