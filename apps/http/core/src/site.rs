//! The files packed into the image, and what is made on request.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::request::{Method, RangeRequest, Request};
use crate::response::{Body, Response};

/// Makes answers that are not files.
pub trait Dynamic {
    /// The body and media type for `path`, or `None` if there is no such page.
    fn page(&mut self, path: &str) -> Option<(Vec<u8>, &'static str)>;
}

/// Has no pages.
pub struct NothingDynamic;

impl Dynamic for NothingDynamic {
    fn page(&mut self, _path: &str) -> Option<(Vec<u8>, &'static str)> {
        None
    }
}

/// Why an archive is not a site.
#[derive(Debug, PartialEq, Eq)]
pub enum SiteError {
    /// Not a tar archive.
    NotAnArchive,
    /// The entry with this number has a name that is not UTF-8.
    Name(usize),
}

impl fmt::Display for SiteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiteError::NotAnArchive => write!(out, "the packed files are not a tar archive"),
            SiteError::Name(entry) => {
                write!(
                    out,
                    "entry {entry} of the packed files has a name that is not UTF-8"
                )
            }
        }
    }
}

struct File<'a> {
    path: String,
    content_type: &'static str,
    bytes: &'a [u8],
}

/// The files, found by path.
pub struct Site<'a> {
    files: Vec<File<'a>>,
}

impl<'a> Site<'a> {
    /// Indexes a tar archive (ustar). `x/index.html` is also found as `x/`.
    pub fn new(archive: &'a [u8]) -> Result<Self, SiteError> {
        let archive =
            tar_no_std::TarArchiveRef::new(archive).map_err(|_| SiteError::NotAnArchive)?;
        let mut files = Vec::new();
        for (number, entry) in archive.entries().enumerate() {
            let name = entry.filename();
            let name = name.as_str().map_err(|_| SiteError::Name(number))?;
            let name = name.trim_start_matches("./").trim_start_matches('/');
            let mut path = String::from("/");
            path.push_str(name);
            let content_type = content_type(name);
            if let Some(folder) = path.strip_suffix("index.html") {
                files.push(File {
                    path: folder.to_string(),
                    content_type,
                    bytes: entry.data(),
                });
            }
            files.push(File {
                path,
                content_type,
                bytes: entry.data(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Number of paths.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Answers one request.
    pub fn answer(&self, request: &Request, dynamic: &mut impl Dynamic) -> Response<'a> {
        let with_body = request.method == Method::Get;
        if let Ok(found) = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(&request.path))
        {
            let file = &self.files[found];
            return file_response(file, request, with_body);
        }
        if let Some((bytes, content_type)) = dynamic.page(&request.path) {
            return Response {
                status: 200,
                content_type,
                content_length: bytes.len() as u64,
                body: if with_body {
                    Body::Made(bytes)
                } else {
                    Body::Empty
                },
                content_range: None,
                cacheable: false,
                keep_alive: request.keep_alive,
            };
        }
        Response::error(404, with_body, request.keep_alive)
    }
}

fn file_response<'a>(file: &File<'a>, request: &Request, with_body: bool) -> Response<'a> {
    let whole = file.bytes.len() as u64;
    let mut response = Response {
        status: 200,
        content_type: file.content_type,
        body: Body::File(file.bytes),
        content_length: whole,
        content_range: None,
        cacheable: true,
        keep_alive: request.keep_alive,
    };
    // RFC 9110, section 14.2: Range is for GET only.
    if let (Some(range), true) = (request.range, with_body) {
        match resolve(range, whole) {
            Some((first, last)) => {
                response.status = 206;
                response.content_range = Some((Some((first, last)), whole));
                response.content_length = last - first + 1;
                // In range of a slice, since last < whole.
                response.body = Body::File(&file.bytes[first as usize..=last as usize]);
            }
            None => {
                response = Response::error(416, true, request.keep_alive);
                response.content_range = Some((None, whole));
            }
        }
    }
    if !with_body {
        response.body = Body::Empty;
    }
    response
}

/// First and last byte, inclusive, or `None` if the range lies outside.
fn resolve(range: RangeRequest, whole: u64) -> Option<(u64, u64)> {
    let last = whole.checked_sub(1)?;
    match range {
        RangeRequest::From(first, end) => {
            (first <= last).then(|| (first, end.map_or(last, |end| end.min(last))))
        }
        RangeRequest::Suffix(0) => None,
        RangeRequest::Suffix(length) => Some((whole.saturating_sub(length), last)),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::request::parse;
    use alloc::format;

    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_and_ranges() {
        let archive = archive(&[
            ("index.html", b"<p>"),
            ("a/b.bin", b"0123456789"),
            ("empty", b""),
        ]);
        let site = Site::new(&archive).unwrap();
        let ask = |path: &str, fields: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            site.answer(&parse(head.as_bytes(), 0).unwrap(), &mut NothingDynamic)
        };
        assert_eq!(ask("/", "").body.bytes(), b"<p>");
        assert_eq!(
            ask("/index.html", "").content_type,
            "text/html; charset=utf-8"
        );
        assert_eq!(ask("/a/b.bin", "").body.bytes(), b"0123456789");
        assert_eq!(ask("/a/../a/b.bin", "").status, 404);
        assert_eq!(ask("/empty", "").content_length, 0);
        let part = ask("/a/b.bin", "Range: bytes=2-4\r\n");
        assert_eq!((part.status, part.body.bytes()), (206, &b"234"[..]));
        assert_eq!(part.content_range, Some((Some((2, 4)), 10)));
        assert_eq!(ask("/a/b.bin", "Range: bytes=-3\r\n").body.bytes(), b"789");
        assert_eq!(
            ask("/a/b.bin", "Range: bytes=-99\r\n").body.bytes(),
            b"0123456789"
        );
        assert_eq!(ask("/a/b.bin", "Range: bytes=8-99\r\n").body.bytes(), b"89");
        assert_eq!(ask("/a/b.bin", "Range: bytes=10-\r\n").status, 416);
        assert_eq!(ask("/empty", "Range: bytes=0-\r\n").status, 416);
    }

    #[test]
    fn not_an_archive() {
        assert_eq!(Site::new(b"hello").err(), Some(SiteError::NotAnArchive));
    }
}
