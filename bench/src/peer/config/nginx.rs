//! nginx's file.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::super::{Place, Serve, Setup};

/// Where Debian and others put the module that passes on TCP.
pub(in super::super) fn stream_module() -> Option<PathBuf> {
    let all = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"];
    all.into_iter().map(|dir| Path::new(dir).join("ngx_stream_module.so")).find(|file| file.is_file())
}

/// `keepalive_requests` is raised because its default closes every connection after 1,000. Without the settings for
/// buffers, larger bodies would be written to files on their way.
fn file(setup: &Setup, place: &Place<'_>) -> String {
    let (upstream, workers, dir, addr) =
        (setup.upstream, setup.workers, place.dir.display(), place.ports.addr);
    let module = stream_module().filter(|_| matches!(setup.serve, Serve::Tcp));
    let module = module.map_or_else(String::new, |file| format!("load_module {};\n", file.display()));
    let main = format!(
        "{module}daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
"
    );
    if let Serve::Tcp = setup.serve {
        return main
            + &format!(
                "stream {{
    server {{
        listen {addr};
        tcp_nodelay on;
        proxy_buffer_size 64k;
        proxy_pass {upstream};
    }}
}}
"
            );
    }
    let listen = match setup.serve {
        Serve::Http2 | Serve::Http2ToHttp1 | Serve::Grpc => format!("listen {addr} http2;"),
        Serve::Tls(_) => {
            let pem = place.pem.display();
            format!(
                "listen {addr} ssl; ssl_protocols TLSv1.3; ssl_certificate {pem}; ssl_certificate_key {pem};"
            )
        }
        _ => format!("listen {addr};"),
    };
    main + &format!(
        "http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_timeout 60s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    upstream app {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        {listen}
        location / {{
{}        }}
    }}
}}
",
        location(&setup.serve)
    )
}

fn location(serve: &Serve) -> String {
    if let Serve::Grpc = serve {
        return "            grpc_pass grpc://app;
            grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
"
        .to_owned();
    }
    let connection = match serve {
        Serve::WebSocket => "Upgrade $http_upgrade;\n            proxy_set_header Connection \"upgrade\"",
        _ => "Connection \"\"",
    };
    format!(
        "            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header {connection};
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            proxy_buffers 16 32k;
            proxy_max_temp_file_size 0;
"
    )
}

pub(super) fn command(setup: &Setup, place: &Place<'_>) -> std::io::Result<Command> {
    let path = place.dir.join("nginx.conf");
    std::fs::write(&path, file(setup, place))?;
    let mut command = Command::new(&setup.binary);
    command.arg("-c").arg(path).arg("-p").arg(place.dir).arg("-e").arg("stderr");
    Ok(command)
}
