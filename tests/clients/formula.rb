# Reads a Homebrew formula as Homebrew would, as far as its words are needed here, and prints what its `service` block says on
# each system as one JSON object: {"macos": {word: value}, "linux": {...}, "formula": {...}}.
#
#   formula.rb FORMULA

require "json"

PREFIX = "/opt/homebrew".freeze

module OS
  class << self
    attr_accessor :system

    def mac? = system == :macos
    def linux? = system == :linux
  end
end

# A directory of the installation; `dir/"name"` is a path in it.
class Folder < String
  def /(name) = Folder.new("#{self}/#{name}")
end

# Notes each word with its arguments.
class Words < BasicObject
  attr_reader :said

  def initialize = @said = {}
  def opt_bin = ::Folder.new("#{::PREFIX}/opt/mpm-monitor/bin")
  def var = ::Folder.new("#{::PREFIX}/var")
  def std_service_path_env = "#{::PREFIX}/bin:#{::PREFIX}/sbin:/usr/bin:/bin:/usr/sbin:/sbin"

  def method_missing(word, *arguments, **named)
    @said[word] = named.empty? ? arguments.fetch(0) : named
  end

  def respond_to_missing?(*) = true
end

class Formula
  class << self
    attr_reader :block, :said

    def service(&block) = @block = block
    def test(&block) = (@said ||= {})[:test] = !block.nil?
    def on_linux = yield

    def method_missing(word, *arguments, **named)
      (@said ||= {})[word] = named.empty? ? arguments.first : named
    end

    def respond_to_missing?(*) = true
  end
end

load ARGV.fetch(0)

services = %i[macos linux].to_h do |system|
  OS.system = system
  words = Words.new
  words.instance_eval(&MpmMonitor.block)
  [system, words.said]
end
puts JSON.generate(services.merge(formula: MpmMonitor.said, methods: MpmMonitor.instance_methods(false).sort))
