/* tcpget ADDRESS PORT [PATH] — HTTP/1.1 `GET PATH` over IPv4, without names: glibc's resolver cannot be linked statically, and
 * busybox-static's wget crashes in it. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

int main(int count, char **words) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  struct timeval limit = {.tv_sec = 3};
  char buffer[4096], request[1024];
  ssize_t got;
  int fd, length;

  if (count < 3 || count > 4 || inet_pton(AF_INET, words[1], &to.sin_addr) != 1) {
    fprintf(stderr, "usage: tcpget ADDRESS PORT [PATH]\n");
    return 2;
  }
  length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n",
                    count == 4 ? words[3] : "/", words[1], words[2]);
  if (length >= (int)sizeof request) return 2;
  to.sin_port = htons(atoi(words[2]));
  fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
    printf("connect: %s\n", strerror(errno));
    return 1;
  }
  if (write(fd, request, length) < 0) return 1;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, got, stdout);
  return got < 0;
}
