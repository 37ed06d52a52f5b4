/*
 * The two callbacks by which plugins write into the log. They are C because they take a variable number of arguments,
 * which Rust can receive in nightly builds only. They format; what becomes of the text is decided in callbacks.rs.
 */

#include <stdarg.h>
#include <stdio.h>

/* As long as a line of the log gets. */
#define LINE 2048

void culvert_plugin_text(unsigned int flags, const char *plugin, const char *text);

void culvert_plugin_vlog(unsigned int flags, const char *plugin, const char *format, va_list arguments)
{
    char text[LINE];

    if (format == NULL || vsnprintf(text, sizeof text, format, arguments) < 0)
        return;
    culvert_plugin_text(flags, plugin, text);
}

void culvert_plugin_log(unsigned int flags, const char *plugin, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    culvert_plugin_vlog(flags, plugin, format, arguments);
    va_end(arguments);
}
