# Sourced by bin/cassandra: a Java that Cassandra runs on, Cassandra itself, certificates.
# shellcheck shell=bash disable=SC2154 # $assets, $lib, $dir, $nodes are its

java_version() { # EXECUTABLE: prints 17, say; nothing if it does not run
  local full
  full="$("$1" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.specification\.version = //p')" || return 0
  printf '%s' "${full#1.}"
}

find_java() { # prints the executable of a Java 17 or 11
  local candidate version found=()
  if [[ -n ${FEEDSME_CASSANDRA_JAVA:-} ]]; then
    candidate="$FEEDSME_CASSANDRA_JAVA"
    [[ -d $candidate ]] && candidate="$candidate/bin/java"
    version="$(java_version "$candidate")"
    [[ $version == 17 || $version == 11 ]] ||
      lacking "Java 17 or 11 (FEEDSME_CASSANDRA_JAVA=$FEEDSME_CASSANDRA_JAVA is ${version:-none that runs})"
    printf '%s' "$candidate"
    return
  fi
  for candidate in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)" /usr/lib/jvm/*17*/bin/java \
    /usr/lib/jvm/*11*/bin/java /usr/lib/jvm/*/bin/java; do
    [[ -x $candidate ]] || continue
    version="$(java_version "$candidate")"
    if [[ $version == 17 || $version == 11 ]]; then
      printf '%s' "$candidate"
      return
    fi
    [[ -z $version || " ${found[*]-} " == *" $version "* ]] || found+=("$version")
  done
  lacking "Java 17 or 11 (${found[*]+only ${found[*]} }found); on Debian: apt-get install openjdk-17-jre-headless, or name one in FEEDSME_CASSANDRA_JAVA"
}

fetch() { # JAVA: Cassandra and what it depends on, once
  cmp -s "$assets/pom.xml" "$lib/pom.xml" && return
  command -v mvn >/dev/null ||
    lacking "Maven, once, to fetch Cassandra (on Debian: apt-get install maven)"
  mkdir -p "${lib%/*}"
  # Others that start at the same time wait, then find it done. What is fetched appears in one step.
  (
    flock 8
    cmp -s "$assets/pom.xml" "$lib/pom.xml" && exit
    rm -rf "$lib".new.*
    new="$(mktemp -d "$lib.new.XXXXXX")"
    trap 'rm -rf "$new"' EXIT
    say "Fetching Cassandra into target/cassandra/lib ..."
    [[ -n ${JAVA_HOME:-} ]] || JAVA_HOME="$(dirname "$(dirname "$(realpath "$1")")")"
    export JAVA_HOME
    if ! mvn --quiet --batch-mode --strict-checksums --file "$assets/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime "-DoutputDirectory=$new" </dev/null >"$new/mvn.log" 2>&1; then
      cat "$new/mvn.log" >&2
      lacking "a reachable Maven repository (mvn failed, see above)"
    fi
    rm -f "$new/mvn.log"
    cp "$assets/pom.xml" "$new/pom.xml"
    chmod 755 "$new"
    rm -rf "$lib"
    mv -T "$new" "$lib"
  ) 8<"${lib%/*}"
}

make_certificates() {
  local at="$dir/tls" names="DNS:localhost" node
  command -v openssl >/dev/null || lacking "openssl, for --tls"
  mkdir -p "$at"
  for ((node = 1; node <= nodes; node++)); do names+=",IP:$(address "$node")"; done
  # shellcheck disable=SC2015 # whichever of them fails
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=bin-cassandra authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
    -keyout "$at/ca.key" -out "$at/ca.pem" 2>"$at/openssl.log" &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$(address 1)" \
      -keyout "$at/node.key" -out "$at/node.csr" 2>>"$at/openssl.log" &&
    openssl x509 -req -in "$at/node.csr" -CA "$at/ca.pem" -CAkey "$at/ca.key" -CAcreateserial -days 30 \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names") \
      -out "$at/node.pem" 2>>"$at/openssl.log" &&
    openssl pkcs12 -export -in "$at/node.pem" -inkey "$at/node.key" -certfile "$at/ca.pem" -name node \
      -passout pass:cassandra -out "$at/node.p12" 2>>"$at/openssl.log" ||
    fail "the certificates could not be made: $(cat "$at/openssl.log")"
}
