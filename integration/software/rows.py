"""What is run, and what it must say.

Each row: its packages (the first is the one whose version is shown), a script for bash in the container, and a regular
expression that its output must match. `status` is its exit status if that is not 0, `drop` capabilities that Docker would
grant, `uid` a user other than root, `core` whether it is in the short list.
"""

ROWS = {
    "shell": {
        "title": "bash, coreutils", "packages": ["coreutils"], "core": True,
        "does": "pipes, jobs, a here document, sort",
        "script": "set -e; sort -r <<< $'1\\n2\\n3' | head -1 > /tmp/a; sleep 0.1 & wait; (trap 'echo trapped' USR1; kill -USR1 $BASHPID); "
                  "echo shell $(cat /tmp/a)",
        "answer": r"^trapped\nshell 3$",
    },
    "apt": {
        "title": "apt, dpkg", "packages": ["apt"], "core": True,
        "does": "installs a package as the user _apt fetches it, with its scripts",
        "script": "set -e; export DEBIAN_FRONTEND=noninteractive; cd /srv/repository; chmod a+rX . *.deb; "
                  "apt-get install -y ./*.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; hello; apt-get remove -y hello >/dev/null 2>&1; "
                  "hash -r; ! command -v hello",
        "answer": r"^Hello, world!$",
    },
    "python": {
        "title": "Python", "packages": ["python3"], "core": True,
        "does": "threads, processes with semaphores, asyncio over a socket, SQLite",
        "script": r"""cat > /tmp/p.py <<'END'
import asyncio, concurrent.futures as futures, multiprocessing, sqlite3, threading
def square(n): return n * n
async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline()); writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo\n"); return (await reader.readline()).decode().strip()
if __name__ == "__main__":
    with futures.ThreadPoolExecutor(8) as pool: threads = sum(pool.map(square, range(100)))
    with multiprocessing.Pool(2) as pool: processes = sum(pool.map(square, range(100)))
    one = sqlite3.connect("/tmp/db").execute("select 6 * 7").fetchone()[0]
    print("python", threads, processes, one, asyncio.run(echo()))
END
python3 /tmp/p.py""",
        "answer": r"^python 328350 328350 42 echo$",
    },
    "perl": {
        "title": "Perl", "packages": ["perl-base"], "core": True,
        "does": "fork, pipes, a pair of sockets, a signal with a handler",
        "script": r"""perl -MSocket -e 'socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die $!; if (!fork) { syswrite $b, "child"; exit 5 }
sysread $a, my $text, 5; wait; my $status = $? >> 8; $SIG{ALRM} = sub { print "perl $text $status\n"; exit 0 }; alarm 1; sleep 10'""",
        "answer": r"^perl child 5$",
    },
    "sqlite": {
        "title": "SQLite", "packages": ["sqlite3"], "core": True,
        "does": "a database with a write-ahead log, in shared memory",
        "script": "sqlite3 /tmp/db 'pragma journal_mode = wal; create table t(a); insert into t values(41), (1); select sum(a) from t; pragma integrity_check'",
        "answer": r"^wal\n42\nok$",
    },
    "nginx": {
        "title": "nginx", "packages": ["nginx-light"], "core": True,
        "does": "serves a page on port 80 from workers of another user, is reloaded, and stops",
        "script": "set -e; echo served > /var/www/html/index.html; nginx; curl -s 127.0.0.1; nginx -s reload; sleep 1; curl -s 127.0.0.1; "
                  "ps() { cat /proc/[0-9]*/comm | sort | uniq -c; }; ps | grep -q nginx; nginx -s quit; sleep 1; echo stopped",
        "answer": r"^served\nserved\nstopped$",
        "more": ["curl"],
    },
    "redis": {
        "title": "Redis", "packages": ["redis-server"], "core": True,
        "does": "keeps values, writes them to disk from a child, answers",
        "script": "redis-server --daemonize yes --dir /tmp --save '' >/dev/null; for i in $(seq 50); do redis-cli ping >/dev/null 2>&1 && break; sleep 0.1; done; "
                  "redis-cli set a 6 >/dev/null; redis-cli incrby a 36; redis-cli bgsave >/dev/null; sleep 1; redis-cli info persistence | grep rdb_last_bgsave_status; "
                  "redis-cli shutdown nosave",
        "answer": r"^42\nrdb_last_bgsave_status:ok",
    },
    "memcached": {
        "title": "memcached", "packages": ["memcached"], "core": True,
        "does": "keeps a value, as a user of its own",
        "script": "memcached -u memcache -d -l 127.0.0.1; sleep 1; exec 3<>/dev/tcp/127.0.0.1/11211; printf 'set a 0 0 2\\r\\n42\\r\\nget a\\r\\nquit\\r\\n' >&3; cat <&3",
        "answer": r"^STORED\r?\nVALUE a 0 2\r?\n42",
    },
    "haproxy": {
        "title": "HAProxy", "packages": ["haproxy"], "core": True,
        "does": "passes requests on to a server behind it",
        "script": r"""cat > /tmp/h.cfg <<'END'
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:8080
  http-request return status 200 content-type text/plain string "answered" if { path /here }
  default_backend back
backend back
  server self 127.0.0.1:8081
frontend inner
  bind 127.0.0.1:8081
  http-request return status 200 content-type text/plain string "passed on"
END
haproxy -D -f /tmp/h.cfg && sleep 1 && for path in here there; do exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /%s HTTP/1.0\r\n\r\n' $path >&3; cat <&3; echo; done""",
        "answer": r"answered(.|\n)*passed on",
    },
    "git": {
        "title": "Git", "packages": ["git"], "core": True,
        "does": "commits, clones, packs, checks",
        "script": "set -e; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; git init -q /tmp/r; cd /tmp/r; echo x > f; git add f; "
                  "git commit -qm one; git clone -q /tmp/r /tmp/c; cd /tmp/c; git gc -q; git fsck 2>/dev/null; git log --format=%s",
        "answer": r"^one$",
    },
    "ping_without_net_raw": {
        "title": "ping without NET_RAW", "packages": ["iputils-ping"], "drop": ["CAP_NET_RAW"], "uid": 1000,
        "sysctl": {"net.ipv4.ping_group_range": "0 2147483647"}, "core": True,
        "does": "a datagram socket for ICMP, allowed by net.ipv4.ping_group_range, as an ordinary user",
        "script": "cp /bin/ping /tmp/ping; /tmp/ping -c 1 127.0.0.1",
        "answer": r"1 packets transmitted, 1 received",
    },
    "postgresql": {
        "title": "PostgreSQL", "packages": ["postgresql"],
        "does": "makes a cluster, starts, answers with parallel workers, stops",
        "script": r"""cat > /tmp/pg <<'END'
set -e
B=$(ls -d /usr/lib/postgresql/*/bin); export PATH=$B:$PATH
initdb -D /tmp/d >/tmp/initdb.log 2>&1 || { cat /tmp/initdb.log; exit 1; }
pg_ctl -D /tmp/d -o '-k /tmp' -l /tmp/server.log -w start >/dev/null || { cat /tmp/server.log; exit 1; }
psql -h /tmp -d postgres -Atc 'create table t as select generate_series(1, 200000) a; analyze t; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; select sum(a) from t' | tail -1
psql -h /tmp -d postgres -Atc 'vacuum t' -c checkpoint -c 'select 6 * 7' | tail -1
pg_ctl -D /tmp/d -m fast -w stop | tail -1
END
chmod 755 /tmp/pg; su postgres -s /bin/bash -c /tmp/pg""",
        "answer": r"^20000100000\n42\nserver stopped$",
    },
    "mariadb": {
        "title": "MariaDB", "packages": ["mariadb-server"],
        "does": "makes its tables, starts with InnoDB (io_uring, or what there is), answers, stops",
        "script": "mariadb-install-db --user=mysql --datadir=/tmp/m >/tmp/log 2>&1 || { tail /tmp/log; exit 1; }; "
                  "mariadbd --user=mysql --datadir=/tmp/m --socket=/tmp/s --pid-file=/tmp/m/pid --skip-networking >/tmp/log 2>&1 & "
                  "for i in $(seq 300); do mariadb --socket=/tmp/s -e '' 2>/dev/null && break; sleep 0.2; done; "
                  "mariadb --socket=/tmp/s -Ne 'create database d; use d; create table t(a int) engine=innodb; insert into t values (41), (1); select sum(a) from t' || tail /tmp/log; "
                  "mariadb-admin --socket=/tmp/s shutdown; wait; echo ended $?",
        "answer": r"^42\nended 0$",
    },
    "rabbitmq": {
        "title": "RabbitMQ, Erlang", "packages": ["rabbitmq-server"],
        "does": "starts, takes and gives back a message",
        "script": "echo '127.0.0.1 localhost software' > /etc/hosts; export HOME=/var/lib/rabbitmq; rabbitmq-server -detached >/dev/null 2>&1; "
                  "for i in $(seq 60); do rabbitmqctl await_startup >/dev/null 2>&1 && break; sleep 1; done; "
                  "rabbitmqctl eval '1 = length([rabbit]), 6 * 7.'; rabbitmqctl -q list_vhosts; rabbitmqctl stop >/dev/null 2>&1; echo stopped",
        "answer": r"^42\n(.|\n)*^/$\n(.|\n)*stopped$",
    },
    "java": {
        "title": "OpenJDK", "packages": ["openjdk-17-jdk-headless"],
        "does": "compiles and runs threads, a garbage collector, sockets",
        "script": r"""cat > /tmp/Hello.java <<'END'
import java.net.*; import java.nio.file.*; import java.util.stream.*;
public class Hello {
  public static void main(String[] a) throws Exception {
    long sum = LongStream.range(0, 1000000).parallel().sum();
    ServerSocket server = new ServerSocket(0);
    Thread thread = new Thread(() -> { try { server.accept().getOutputStream().write(42); } catch (Exception e) { e.printStackTrace(); } });
    thread.start();
    int got = new Socket("127.0.0.1", server.getLocalPort()).getInputStream().read();
    System.gc();
    for (int i = 0; i < 200; i++) { byte[] garbage = new byte[1 << 20]; }
    System.out.println("java " + sum + " " + got + " " + new ProcessBuilder("true").start().waitFor());
  }
}
END
cd /tmp && javac Hello.java && java -XX:+UseG1GC -XX:+UseNUMA Hello""",
        "answer": r"^java 499999500000 42 0$",
    },
    "node": {
        "title": "Node.js", "packages": ["nodejs"],
        "does": "files, worker threads, HTTP with itself, a child process",
        "script": r"""cat > /tmp/n.js <<'END'
const fs = require("fs/promises"), http = require("http"), { Worker } = require("worker_threads"), { execFileSync } = require("child_process");
(async () => {
  await fs.writeFile("/tmp/f", "6"); const six = +(await fs.readFile("/tmp/f"));
  const seven = await new Promise(done => new Worker('require("worker_threads").parentPort.postMessage(7)', { eval: true }).on("message", done));
  const server = http.createServer((_, answer) => answer.end(String(six * seven))).listen(0, "127.0.0.1");
  await new Promise(done => server.on("listening", done));
  http.get({ host: "127.0.0.1", port: server.address().port, agent: false }, answer => answer.on("data", text => { console.log("node " + text + execFileSync("echo", ["!"])); server.close(); }));
})();
END
node /tmp/n.js""",
        "answer": r"^node 42!$",
    },
    "go": {
        "title": "Go", "packages": ["golang-go"],
        "does": "builds a static program; goroutines over threads, HTTP with itself",
        "script": r"""mkdir /tmp/g && cd /tmp/g && cat > main.go <<'END'
package main
import ("fmt"; "io"; "net/http"; "net/http/httptest"; "os/exec"; "sync")
func main() {
  var group sync.WaitGroup; var lock sync.Mutex; sum := 0
  for i := 0; i < 1000; i++ { group.Add(1); go func(i int) { defer group.Done(); lock.Lock(); sum += i; lock.Unlock() }(i) }
  group.Wait()
  server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "42") }))
  answer, err := http.Get(server.URL); if err != nil { panic(err) }
  body, _ := io.ReadAll(answer.Body)
  fmt.Println("go", sum, string(body), exec.Command("true").Run())
}
END
go mod init g 2>/dev/null && CGO_ENABLED=0 GOCACHE=/tmp/cache GOFLAGS=-p=2 go build -o g . && ./g && file g | grep -o 'statically linked'""",
        "answer": r"^go 499500 42 <nil>\nstatically linked$",
        "more": ["file"],
    },
    "gcc": {
        "title": "GCC", "packages": ["gcc"],
        "does": "compiles a program with glibc; threads with priority inheritance, timers, shared memory",
        "script": r"""cat > /tmp/c.c <<'END'
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static pthread_mutex_t m; static int n;
static void *work(void *p) { for (int i = 0; i < 1000; i++) { pthread_mutex_lock(&m); n++; pthread_mutex_unlock(&m); } return p; }
int main(void) {
  pthread_mutexattr_t a; pthread_mutexattr_init(&a); pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT); pthread_mutex_init(&m, &a);
  pthread_t t[4]; for (int i = 0; i < 4; i++) if (pthread_create(&t[i], 0, work, 0)) return 1;
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  int *shared = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); if (!fork()) { *shared = 42; _exit(0); } wait(0);
  printf("c %d %d\n", n, *shared); return 0;
}
END
gcc -O1 -pthread -o /tmp/c /tmp/c.c && /tmp/c""",
        "answer": r"^c 4000 42$",
        "more": ["libc6-dev"],
    },
    "musl": {
        "title": "musl", "packages": ["musl-tools"],
        "does": "a static program of the other C library: threads, a shell with popen",
        "script": r"""cat > /tmp/m.c <<'END'
#include <pthread.h>
#include <stdio.h>
static void *work(void *p) { return p; }
int main(void) { pthread_t t; void *r; if (pthread_create(&t, 0, work, (void *)42)) return 1; pthread_join(t, &r);
  char b[16]; FILE *f = popen("echo shell", "r"); fgets(b, 16, f); pclose(f); printf("musl %ld %s", (long)r, b); return 0; }
END
musl-gcc -static -o /tmp/m /tmp/m.c && /tmp/m""",
        "answer": r"^musl 42 shell$",
        "more": ["gcc"],
    },
    "ruby": {
        "title": "Ruby", "packages": ["ruby"],
        "does": "threads, fork, a socket",
        "script": "ruby -rsocket -e 's = TCPServer.new(\"127.0.0.1\", 0); t = Thread.new { s.accept.puts 42 }; a = TCPSocket.new(\"127.0.0.1\", s.addr[1]).gets; t.join; "
                  "p = fork { exit 5 }; Process.wait p; puts \"ruby #{a.chomp} #{$?.exitstatus}\"'",
        "answer": r"^ruby 42 5$",
    },
    "php": {
        "title": "PHP", "packages": ["php-cli"],
        "does": "its own web server",
        "script": "mkdir /tmp/w; echo '<?php echo \"php \", 6 * 7, \"\\n\";' > /tmp/w/index.php; php -S 127.0.0.1:8000 -t /tmp/w >/dev/null 2>&1 & sleep 2; "
                  "php -r 'echo file_get_contents(\"http://127.0.0.1:8000/\");'; kill $!",
        "answer": r"^php 42$",
    },
    "tcpdump": {
        "title": "tcpdump with NET_RAW", "packages": ["tcpdump"],
        "does": "sees a packet on lo",
        "script": "tcpdump -Z root -i lo -c 1 -n udp 2>/tmp/err >/tmp/out & sleep 2; echo x > /dev/udp/127.0.0.1/9; wait $!; cat /tmp/out /tmp/err",
        "answer": r"127\.0\.0\.1\.9: UDP(.|\n)*1 packet captured",
    },
    "tcpdump_without_net_raw": {
        "title": "tcpdump without NET_RAW", "packages": ["tcpdump"], "drop": ["CAP_NET_RAW"],
        "does": "is refused, and says so",
        "script": "tcpdump -Z root -i lo -c 1 -n udp", "status": 1,
        "answer": r"You don't have permission to perform this capture|Operation not permitted",
    },
    "strace": {
        "title": "strace", "packages": ["strace"],
        "does": "follows a program of the same container",
        "script": "strace -f -e trace=execve -o /tmp/t sh -c 'cat /dev/null'; grep -c execve /tmp/t",
        "answer": r"^2$",
    },
    "chromium": {
        "title": "Chromium, headless", "packages": ["chromium"],
        "does": "runs a script in a page, with --no-sandbox",
        "script": "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=/tmp/u --dump-dom "
                  "'data:text/html,<p id=a></p><script>a.textContent=6*7</script>' 2>/tmp/err || tail -5 /tmp/err",
        "answer": r'<p id="a">42</p>',
    },
    "sudo": {
        "title": "su", "packages": ["login"],
        "does": "changes the user by way of PAM, as a program with the set-user-ID bit does",
        "script": "useradd -m someone && su someone -c 'id -un' && su someone -c 'grep NoNewPrivs /proc/self/status'",
        "answer": r"^someone\nNoNewPrivs:\t0$",
        "more": ["passwd"],
    },
}

for row in ROWS.values():
    row["packages"] = row["packages"] + row.pop("more", [])
