/*
 * The two callbacks by which plugins write into the log. They are C because they take a variable number of arguments,
 * which Rust can receive in nightly builds only. They format; what becomes of the text is decided in callbacks.rs.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* As long as a line of the log gets. */
#define LINE 2048

/* PLOG_ERRNO of the interface: the reason of the last failure is to follow. */
#define WITH_ERRNO (1u << 8)

void culvert_plugin_text(unsigned int flags, const char *plugin, const char *text);

void culvert_plugin_vlog(unsigned int flags, const char *plugin, const char *format, va_list arguments)
{
    char text[LINE];
    int failure = errno;
    int len;

    if (format == NULL || (len = vsnprintf(text, sizeof text, format, arguments)) < 0)
        return;
    if (flags & WITH_ERRNO && (size_t)len < sizeof text)
        snprintf(text + len, sizeof text - (size_t)len, ": %s (errno=%d)", strerror(failure), failure);
    culvert_plugin_text(flags, plugin, text);
}

void culvert_plugin_log(unsigned int flags, const char *plugin, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    culvert_plugin_vlog(flags, plugin, format, arguments);
    va_end(arguments);
}
