# Stands in for gcr.io/distroless/cc-debian12:nonroot: the same Debian packages, unpacked, and no shell.
FROM debian:bookworm-slim AS packages
WORKDIR /packages
RUN apt-get update && apt-get download \
    base-files netbase tzdata libc6 libgcc-s1 gcc-12-base libgomp1 libstdc++6 libssl3 \
 && for package in *.deb; do dpkg-deb -x "$package" /image; done \
 && rm -rf /image/usr/share/doc \
 && echo 'root:x:0:0:root:/root:/sbin/nologin' > /image/etc/passwd \
 && echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >> /image/etc/passwd \
 && echo 'root:x:0:' > /image/etc/group && echo 'nonroot:x:65532:' >> /image/etc/group \
 && mkdir -p /image/etc/ssl/certs /image/home/nonroot && chown 65532:65532 /image/home/nonroot \
 && chmod 1777 /image/tmp
COPY ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=packages /image /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532
WORKDIR /home/nonroot
